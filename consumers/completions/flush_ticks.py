"""One pace for all streams of a worker: what came within an interval leaves in one burst."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Flush = Callable[[], Awaitable[None]]


class FlushTicks:
    """Calls back at most once an interval, at once after a quiet one.

    Many streams in one burst are one request to the broker and one fetch of every edge, not one for each token.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due: dict[Flush, None] = {}
        self._next_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def flush_soon(self, flush: Flush) -> None:
        """Calls `flush` once with the next burst, in the order in which they came; it must not raise."""
        self._due[flush] = None
        if self._task is None:
            self._task = asyncio.create_task(self._tick(), name="flush ticks")

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            await asyncio.sleep(max(0.0, self._next_s - loop.time()))
            self._next_s = loop.time() + self._interval_s
            due, self._due = self._due, {}
            for flush in due:
                await flush()
        self._task = None
