"""*accept*: POST message with `Prefer: respond-async` → 202, against a bare ASGI app (`bench/bare_edge.py`).

The worker and the relay stand still meanwhile, so that only the edges work. Each round: one client that waits for each
answer (latency), then 16 at once (CPU of the server's process per request; a server's own tails count too).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bench.children import Children
from bench.measure import Row, alternate, at_most, percentile
from bench.persisted import CONTENT
from bench.stack import Stack
from schemas.topics import CHAT_COMMANDS

SECONDS = 3.0


@dataclass
class Posts:
    """One side: the same requests to one server."""

    children: Children
    question: dict[str, object]
    pids: list[int]

    async def p50_ms(self) -> float:
        """One client."""
        told = await self._run(connections=1)
        return percentile(told["ms"], 0.5)

    async def cpu_us(self) -> float:
        """Of the server, a request, with 16 clients."""
        told = await self._run(connections=16)
        return float(told["cpu_s"]) / len(told["ms"]) * 1e6

    async def _run(self, *, connections: int) -> dict[str, Any]:
        told = await self.children.answer(
            "bench.load_client",
            {
                **self.question,
                "what": "posts",
                "content": CONTENT,
                "sessions": 0,
                "connections": connections,
                "seconds": SECONDS,
                "headers": ["Prefer: respond-async"],
                "pids": self.pids,
            },
        )
        if set(told["statuses"]) != {"202"}:
            raise RuntimeError(f"accept: {told['statuses']}")
        return told


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *accept*."""
    asked = {"bootstrap": stack.kafka_bootstrap, "key": stack.api_key, "topic": CHAT_COMMANDS.name}
    bare_child = stack.children.start("bench.bare_edge", json.dumps(asked))
    bare_port = (await stack.children.told(bare_child))["port"]
    ours = Posts(stack.children, stack.client(), stack.pids("edge"))
    bare = Posts(stack.children, stack.client(port=bare_port, host="127.0.0.1"), [bare_child.pid])
    with stack.paused("worker", "relay"):
        for side in (ours, bare):
            await side.cpu_us()
        latency = await alternate(n_rounds, {"bare": bare.p50_ms, "ours": ours.p50_ms})
        cpu = await alternate(n_rounds, {"bare": bare.cpu_us, "ours": ours.cpu_us})
    bare_child.end_now()
    return [
        at_most("accept", "p50, vs bare ASGI", ours=latency["ours"], baseline=latency["bare"], factor=1.3, unit="ms"),
        at_most("accept", "CPU a request, vs bare ASGI", ours=cpu["ours"], baseline=cpu["bare"], factor=1.6, unit="µs"),
    ]
