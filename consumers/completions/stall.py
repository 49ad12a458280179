"""Gives a provider up that has no text for too long, at the price of one look at the clock for each text."""

from __future__ import annotations

import asyncio
from types import TracebackType

from providers.ports import ProviderError, Timeouts


class StallWatch:
    """Around a stream: raises ProviderError `timeout` when the first text or the next one stays away too long.

    As `asyncio.timeout` does it: the task is cancelled, and the cancellation becomes the error on leaving the block.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._stall_s, self._limit_s = timeouts.stall_s, timeouts.first_text_s
        self._waits_since_s: float | None = self._loop.time()
        self._has_stalled = False
        self._timer = self._loop.call_later(self._limit_s, self._look)

    def text_came(self) -> None:
        """The provider is not waited for until `next_text` is called."""
        self._waits_since_s = None
        if self._limit_s != self._stall_s:
            self._limit_s = self._stall_s
            self._timer.cancel()
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def next_text(self) -> None:
        """The wait begins anew."""
        self._waits_since_s = self._loop.time()

    def __enter__(self) -> StallWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._has_stalled and kind is asyncio.CancelledError:
            raise ProviderError("timeout", f"the provider had no text for {self._limit_s:g} s", retryable=True)

    def _look(self) -> None:
        waited_s = 0.0 if self._waits_since_s is None else self._loop.time() - self._waits_since_s
        if waited_s < self._limit_s:
            self._timer = self._loop.call_later(self._limit_s - waited_s, self._look)
        elif self._task is not None:
            self._has_stalled = True
            self._task.cancel()
