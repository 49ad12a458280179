"""Keeps one service running: a process that dies comes back at once, one that keeps dying comes back more slowly."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from ragline.dev_stack.errors import ChildDiedError
from ragline.dev_stack.narrator import Narrator
from ragline.dev_stack.server import Service
from ragline.dev_stack.spawning import Child

EARLY_S = 10.0
LONGEST_DELAY_S = 5.0
GIVE_UP_AFTER = 3


def delay_s(n_early_deaths: int) -> float:
    """Seconds to wait after this many early deaths in a row: none after the first, then 0.25, doubling up to 5."""
    return 0.0 if n_early_deaths <= 1 else min(LONGEST_DELAY_S, 0.25 * 2.0 ** min(n_early_deaths - 2, 10))


class Keeper:
    """Owns the process of one service; `child` is None while there is none."""

    def __init__(self, service: Service, *, on_change: Callable[[], None], narrator: Narrator) -> None:
        self.service = service
        self.child: Child | None = None
        self.was_ready = asyncio.Event()
        self._on_change = on_change
        self._narrator = narrator
        self._told = ""

    async def run(self) -> None:
        """Runs for ever. Raises: ChildDiedError if the service fails repeatedly before it was ever ready."""
        n_early_deaths = n_failures = 0
        while True:
            child = self.child = self.service.spawn()
            self._on_change()
            code, died = await self._until_exit(child)
            n_early_deaths = n_early_deaths + 1 if child.age_s < EARLY_S else 0
            n_failures += died is not None and code >= 0
            if died is not None and n_failures >= GIVE_UP_AFTER and not self.was_ready.is_set():
                raise died
            self._narrator.event(
                f"{child.name} (pid {child.pid}) {_how_it_ended(code)}; starting it again", self._why(child, code)
            )
            delay = delay_s(n_early_deaths)
            if delay:
                self.child = None
                self._on_change()
                await asyncio.sleep(delay)

    async def _until_exit(self, child: Child) -> tuple[int, ChildDiedError | None]:
        died = None
        try:
            await self.service.wait_ready(child)
            self.was_ready.set()
        except ChildDiedError as error:
            died = error
        return await child.exited(), died

    def _why(self, child: Child, code: int) -> str:
        """The last lines of one that was not killed, unless they are known already."""
        tail = child.tail() if code >= 0 else ""
        if tail == self._told:
            return ""
        self._told = tail
        return tail


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
