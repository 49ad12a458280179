"""*relay*: provider → worker → Kafka → edge → SSE, with 500 streams.

Every token is the time at which the provider sent it, so its way is measured token by token at the reading client. CPU
is that of the worker's and the edge's processes together. The raw hop sends records of a chunk's size, as many streams
at the same rate, from one bare producer to one bare group-less consumer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.log_peers import make_topic
from bench.measure import Row, alternate, number, percentile
from bench.stack import Stack

STREAMS, RATE, SECONDS, START_S = 500, 10.0, 8.0, 4.0
TOKENS_PER_CORE = 10_000


async def run(stack: Stack, *, n_rounds: int, n_streams: int = STREAMS, rate: float = RATE) -> list[Row]:
    """The rows of *relay*."""
    await make_topic(stack.kafka_bootstrap)
    runs: list[dict[str, Any]] = []

    async def ours() -> float:
        runs.append(await _ours(stack, n_streams, rate))
        return percentile(runs[-1]["ms"], 0.99)

    async def hop() -> float:
        return await _hop(stack, n_streams, rate)

    sides = await alternate(n_rounds, {"hop": hop, "ours": ours})
    limit_ms = 2 * sides["hop"] + 50
    best = [run["n_tokens"] / sum(run["cpu_s"].values()) for run in runs]
    per_core = sorted(best)[len(best) // 2]
    last = runs[-1]
    shares = ", ".join(f"{role} {cpu / last['n_tokens'] * 1e6:.0f} µs/token" for role, cpu in last["cpu_s"].items())
    through = last["n_tokens"] / last["seconds"]
    return [
        Row(
            "relay",
            f"tokens/s a core, {n_streams} streams × {number(rate)}/s",
            f"≥ {number(TOKENS_PER_CORE)}",
            "–",
            f"{number(per_core)}/s",
            number(per_core / TOKENS_PER_CORE),
            per_core >= TOKENS_PER_CORE,
            f"{shares}; {number(through)} tokens/s arrived; p50 {number(percentile(last['ms'], 0.5))} ms",
        ),
        Row(
            "relay",
            "p99 of a token's way, vs raw hop",
            "≤ 2 × + 50 ms",
            f"{number(sides['hop'])} ms",
            f"{number(sides['ours'])} ms",
            number(sides["ours"] / limit_ms),
            sides["ours"] <= limit_ms,
            f"limit {number(limit_ms)} ms",
        ),
    ]


async def _ours(stack: Stack, n_streams: int, rate: float) -> dict[str, Any]:
    n_tokens = int(rate * (START_S + SECONDS + 6))
    asked = stack.client(
        what="streams",
        streams=n_streams,
        content=f"rate={rate} n={n_tokens}",
        model="stamping",
        start_within_s=START_S,
        seconds=SECONDS,
        ends_within_s=30,
        pids={"worker": stack.pids("worker"), "edge": stack.pids("edge")},
    )
    told = await stack.children.answer("bench.load_client", asked)
    if set(told["ends"]) != {"event: completed"}:
        raise RuntimeError(f"relay: streams ended with {told['ends']}")
    return told


async def _hop(stack: Stack, n_streams: int, rate: float) -> float:
    asked = {"bootstrap": stack.kafka_bootstrap, "streams": n_streams, "rate": rate}
    told = await asyncio.gather(
        stack.children.answer("bench.log_peers", {**asked, "what": "tail", "seconds": SECONDS + 3}),
        stack.children.answer("bench.log_peers", {**asked, "what": "send", "seconds": SECONDS}),
    )
    return percentile(told[0]["ms"], 0.99)
