"""Strikes processes: kill -9, or SIGSTOP for a while, each time whoever has the role then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil

from tests.chaos.plan import Role, Strike
from tests.stack import DevStack


@dataclass(frozen=True, slots=True)
class Blow:
    """A strike that hit. `until_s` is when a frozen process went on."""

    at_s: float
    role: Role
    pid: int
    is_kill: bool
    until_s: float

    def __str__(self) -> str:
        what = "kill -9" if self.is_kill else f"frozen until {self.until_s:.2f}"
        return f"{self.at_s:8.2f}  ** {self.role} {self.pid}: {what}"


class Striker:
    """Plays the strikes of a plan. Holds after `run`: no process is frozen by it."""

    def __init__(self, stack: DevStack, now_s: Callable[[], float]) -> None:
        self._stack = stack
        self._now_s = now_s
        self._thaws: set[asyncio.Task[None]] = set()
        self.blows: list[Blow] = []
        self.n_missed = 0

    async def run(self, strikes: Sequence[Strike]) -> None:
        """Returns after the last strike, when all that was frozen goes on."""
        try:
            for strike in strikes:
                await asyncio.sleep(max(0.0, strike.at_s - self._now_s()))
                self._strike(strike)
            await asyncio.gather(*self._thaws)
        finally:
            for task in self._thaws:
                task.cancel()
            await asyncio.gather(*self._thaws, return_exceptions=True)

    def _strike(self, strike: Strike) -> None:
        pids = [int(p["pid"]) for p in self._stack.report()["processes"] if p["role"] == strike.role]
        if not pids:
            self.n_missed += 1
            return
        now_s = self._now_s()
        try:
            victim = psutil.Process(pids[int(strike.pick * len(pids))])
            if strike.freeze_s is None:
                victim.kill()
                self.blows.append(Blow(now_s, strike.role, victim.pid, True, now_s))
                return
            frozen = freeze(victim)
        except psutil.NoSuchProcess:
            self.n_missed += 1
            return
        self.blows.append(Blow(now_s, strike.role, victim.pid, False, now_s + strike.freeze_s))
        task = asyncio.create_task(_thaw_later(frozen, strike.freeze_s))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)


def freeze(victim: psutil.Process) -> list[psutil.Process]:
    """SIGSTOP for the process and its children: a frozen postmaster alone would leave its sessions running."""
    victim.suspend()
    frozen = [victim]
    for process in _living(victim.children(recursive=True)):
        process.suspend()
        frozen.append(process)
    return frozen


async def _thaw_later(frozen: Sequence[psutil.Process], after_s: float) -> None:
    try:
        await asyncio.sleep(after_s)
    finally:
        thaw(frozen)


def thaw(frozen: Sequence[psutil.Process]) -> None:
    """They go on, those that are still there."""
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def _living(processes: Sequence[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            yield process
