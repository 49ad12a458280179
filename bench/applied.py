"""*applied*: POST → effect known (the default wait), against one acked publish (`send_and_wait`, acks=all).

One client that waits for each answer, and 200 requests a second over 32 connections (open loop: a late request counts
from when it was due). The worker has one slot for answers, and an answer that never comes holds it: what is measured is
the way of a message, not what it costs to write 200 answers a second on the same two cores. What that does to it is
shown beside, without a limit.
"""

from __future__ import annotations

from bench.measure import Row, alternate, at_most, number, percentile
from bench.persisted import CONTENT
from bench.stack import Stack

N_ACKS, SECONDS, PER_SECOND, N_SESSIONS = 500, 4.0, 200, 64
MEANWHILE = 50


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *applied*; the stack has one slot."""
    await _posts(stack, CONTENT + " [[hang=1]]", connections=1, sessions=1, seconds=0.01)
    p99: dict[str, list[float]] = {"one": [], "many": []}

    async def ack() -> float:
        asked = {"what": "ack", "bootstrap": stack.kafka_bootstrap, "n": N_ACKS}
        return percentile((await stack.children.answer("bench.log_peers", asked))["ms"], 0.5)

    async def posts(side: str, **more: int) -> float:
        found = await _posts(stack, CONTENT, seconds=SECONDS, sessions=N_SESSIONS, **more)
        p99[side].append(percentile(found, 0.99))
        return percentile(found, 0.5)

    sides = await alternate(
        n_rounds,
        {
            "ack": ack,
            "one": lambda: posts("one", connections=1),
            "many": lambda: posts("many", connections=32, rate=PER_SECOND),
        },
    )
    rows = []
    for side, name in (("one", "one client"), ("many", f"{PER_SECOND}/s")):
        note = f"p99 {max(p99[side]):.0f} ms"
        measure = f"p50, {name}, vs acked publish"
        ours, baseline = sides[side], sides["ack"]
        rows.append(at_most("applied", measure, ours=ours, baseline=baseline, factor=10, unit="ms", note=note))
    return rows


async def while_answers_are_written(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The same at 50/s with every message answered (one token); shown without a limit."""
    rounds = [
        await _posts(stack, CONTENT + " [[n_tokens=1]]", seconds=SECONDS, connections=32, rate=MEANWHILE)
        for _ in range(n_rounds)
    ]
    p50 = sorted(percentile(found, 0.5) for found in rounds)[n_rounds // 2]
    note = f"p99 {max(percentile(found, 0.99) for found in rounds):.0f} ms"
    measure = f"p50, {MEANWHILE}/s, all answered"
    return [Row("applied", measure, "", "–", f"{number(p50)} ms", "–", None, note)]


async def _posts(stack: Stack, content: str, *, seconds: float, sessions: int = N_SESSIONS, **more: int) -> list[float]:
    asked = stack.client(
        what="posts", content=content, model="deterministic", sessions=sessions, seconds=seconds, **more
    )
    told = await stack.children.answer("bench.load_client", asked)
    if set(told["statuses"]) != {"202"}:
        raise RuntimeError(f"applied: {told['statuses']}")
    found: list[float] = told["ms"]
    return found
