"""*applied*: POST → effect known (the default wait), against one acked publish (`send_and_wait`, acks=all).

One client that waits for each answer, and 200 requests a second over 32 connections (open loop: a late request counts
from when it was due). The worker does all its work: answers are written too, by the deterministic provider.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.measure import Row, alternate, at_most, percentile
from bench.persisted import CONTENT
from bench.stack import Stack

N_ACKS, SECONDS, PER_SECOND, N_SESSIONS = 500, 4.0, 200, 64
ANSWER = " [[n_tokens=1]]"


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *applied*."""
    p99: dict[str, list[float]] = {"one": [], "many": []}

    async def ack() -> float:
        asked = {"what": "ack", "bootstrap": stack.kafka_bootstrap, "n": N_ACKS}
        return percentile((await stack.children.answer("bench.log_peers", asked))["ms"], 0.5)

    async def posts(side: str, more: Mapping[str, object]) -> float:
        asked = stack.client(
            what="posts",
            content=CONTENT + ANSWER,
            model="deterministic",
            sessions=N_SESSIONS,
            seconds=SECONDS,
            **more,
        )
        told = await stack.children.answer("bench.load_client", asked)
        if set(told["statuses"]) != {"202"}:
            raise RuntimeError(f"applied: {told['statuses']}")
        p99[side].append(percentile(told["ms"], 0.99))
        return percentile(told["ms"], 0.5)

    sides = await alternate(
        n_rounds,
        {
            "ack": ack,
            "one": lambda: posts("one", {"connections": 1}),
            "many": lambda: posts("many", {"connections": 32, "rate": PER_SECOND}),
        },
    )
    rows = []
    for side, name in (("one", "one client"), ("many", f"{PER_SECOND}/s")):
        note = f"p99 {max(p99[side]):.0f} ms"
        measure = f"p50, {name}, vs acked publish"
        ours, baseline = sides[side], sides["ack"]
        rows.append(at_most("applied", measure, ours=ours, baseline=baseline, factor=10, unit="ms", note=note))
    return rows
