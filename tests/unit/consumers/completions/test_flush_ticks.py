"""Bursts: one for all that came within an interval, at once after a quiet one."""

from __future__ import annotations

import asyncio

from consumers.completions.flush_ticks import FlushTicks


class Streams:
    """Notes when each stream was flushed."""

    def __init__(self, ticks: FlushTicks) -> None:
        self._ticks = ticks
        self.flushed: list[tuple[str, float]] = []
        self.changed = asyncio.Event()

    def write(self, name: str) -> None:
        async def flush() -> None:
            self.flushed.append((name, asyncio.get_running_loop().time()))
            self.changed.set()

        self._ticks.flush_soon(flush)

    async def until(self, n: int) -> None:
        async with asyncio.timeout(10):
            while len(self.flushed) < n:
                self.changed.clear()
                await self.changed.wait()


async def test_what_came_within_an_interval_leaves_in_one_burst_after_it() -> None:
    streams = Streams(FlushTicks(0.05))
    streams.write("first")
    await streams.until(1)
    for name in ("a", "b", "c"):
        streams.write(name)
    await streams.until(4)
    (_, first_s), *burst = streams.flushed
    assert [name for name, _ in burst] == ["a", "b", "c"]
    assert burst[0][1] - first_s > 0.045


async def test_after_a_quiet_interval_a_burst_does_not_wait() -> None:
    streams = Streams(FlushTicks(3600.0))
    streams.write("alone")
    await streams.until(1)
    assert [name for name, _ in streams.flushed] == ["alone"]


async def test_a_stream_is_flushed_once_a_burst() -> None:
    ticks, n = FlushTicks(0.001), 0

    async def flush() -> None:
        nonlocal n
        n += 1

    ticks.flush_soon(flush)
    ticks.flush_soon(flush)
    assert ticks._task is not None
    await ticks._task
    assert n == 1
    ticks.flush_soon(flush)
    await ticks._task
    assert n == 2
