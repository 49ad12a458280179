"""Breadth-first exploration of a small world, with shortest traces and liveness by backward reachability."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

WorldT = TypeVar("WorldT", bound=Hashable)

NO_WAY_OUT = "liveness: no path from here to the end"


@dataclass(frozen=True)
class Report:
    """What an exploration found. `broken` is None, or the first invariant that fails, with a shortest `trace` to it."""

    n_states: int
    n_steps: int
    seconds: float
    broken: str | None = None
    trace: tuple[str, ...] = field(default=())

    def told(self) -> str:
        """A paragraph for a person."""
        head = f"{self.n_states} states, {self.n_steps} steps, {self.seconds:.1f} s"
        if self.broken is None:
            return head
        steps = "\n".join(f"  {number:2}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{head}: {self.broken}\n{steps}"


class Explorer(Generic[WorldT]):
    """Visits every state that `actions` reaches from `start`.

    `fault(world)` names a broken invariant or is None; `is_end(world)` says that the world needs nothing more.
    """

    def __init__(
        self,
        start: WorldT,
        actions: Callable[[WorldT], Iterable[tuple[str, WorldT]]],
        fault: Callable[[WorldT], str | None],
        is_end: Callable[[WorldT], bool],
        max_states: int = 2_000_000,
    ) -> None:
        self._actions, self._fault, self._is_end = actions, fault, is_end
        self._max_states = max_states
        self._worlds: list[WorldT] = [start]
        self._index: dict[WorldT, int] = {start: 0}
        self._came_from: list[tuple[int, str]] = [(-1, "")]
        self._before: list[list[int]] = [[]]
        self._n_steps = 0
        self._began = time.perf_counter()

    def run(self) -> Report:
        """Explores to the end or to the first broken invariant, safety before liveness."""
        here = 0
        while here < len(self._worlds):
            world = self._worlds[here]
            broken = self._fault(world)
            if broken is not None:
                return self._report(broken, here)
            for label, after in self._actions(world):
                self._arrive(here, label, after)
            here += 1
        stuck = self._first_without_end()
        return self._report(None, 0) if stuck is None else self._report(NO_WAY_OUT, stuck)

    def _arrive(self, here: int, label: str, after: WorldT) -> None:
        self._n_steps += 1
        there = self._index.get(after)
        if there is None:
            there = self._index[after] = len(self._worlds)
            if there >= self._max_states:
                raise RuntimeError(f"more than {self._max_states} states: make the scenario smaller")
            self._worlds.append(after)
            self._came_from.append((here, label))
            self._before.append([])
        self._before[there].append(here)

    def _first_without_end(self) -> int | None:
        """The state nearest to the start from which no end can be reached."""
        reaches = [self._is_end(world) for world in self._worlds]
        queue = deque(number for number, is_end in enumerate(reaches) if is_end)
        while queue:
            for earlier in self._before[queue.popleft()]:
                if not reaches[earlier]:
                    reaches[earlier] = True
                    queue.append(earlier)
        return next((number for number, fine in enumerate(reaches) if not fine), None)

    def _report(self, broken: str | None, at: int) -> Report:
        trace: list[str] = []
        while broken is not None and at > 0:
            at, label = self._came_from[at]
            trace.append(label)
        seconds = time.perf_counter() - self._began
        return Report(len(self._worlds), self._n_steps, seconds, broken, tuple(reversed(trace)))
