"""*first token*: from the request to the first text, against the same call made directly to the provider.

Through us: `POST …/messages` with `Accept: text/event-stream`, to the first `delta`. Alone: one request at a time.
At once: 40 requests in the same moment, each in a session of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from bench.measure import Row, Sides, alternate, number, percentile
from bench.stack import Stack

N_ALONE, AT_ONCE, N_BURSTS = 20, 40, 3
CONTENT = "How does trace-based compilation decide when to compile a loop? [[n_tokens=8]]"
ALONE_MS, AT_ONCE_MS = 20.0, 150.0


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *first token*."""
    provider = urlsplit(stack.deterministic)
    direct = {"host": provider.hostname, "port": provider.port, "key": "none", "direct": True}
    ours = stack.client(model="deterministic")
    slowest: list[float] = []

    async def p50(side: Mapping[str, object], *, n: int, at_once: int) -> float:
        asked = {**side, "what": "first", "content": CONTENT, "n": n, "at_once": at_once}
        found: list[float] = (await stack.children.answer("bench.load_client", asked))["ms"]
        if side is ours and at_once > 1:
            slowest.append(max(found))
        return percentile(found, 0.5)

    async def both(*, n: int, at_once: int) -> Sides:
        calls: dict[str, Mapping[str, object]] = {"direct": direct, "ours": ours}
        return await alternate(
            n_rounds, {name: partial(p50, side, n=n, at_once=at_once) for name, side in calls.items()}
        )

    await p50(ours, n=2, at_once=AT_ONCE)
    slowest.clear()
    alone = await both(n=N_ALONE, at_once=1)
    burst = await both(n=N_BURSTS, at_once=AT_ONCE)
    over_ms, note = alone["ours"] - alone["direct"], f"slowest of all {number(max(slowest))} ms"
    return [
        _row("alone, over the direct call", alone, over_ms, limit_ms=ALONE_MS, sign="+"),
        _row(f"p50 at {AT_ONCE} simultaneous starts", burst, burst["ours"], limit_ms=AT_ONCE_MS, note=note),
    ]


def _row(measure: str, both_ms: Sides, told_ms: float, *, limit_ms: float, sign: str = "", note: str = "") -> Row:
    return Row(
        "first token",
        measure,
        f"≤ {sign}{number(limit_ms)} ms",
        f"{number(both_ms['direct'])} ms",
        f"{number(both_ms['ours'])} ms",
        f"{sign}{number(told_ms)} ms",
        told_ms <= limit_ms,
        note,
    )
