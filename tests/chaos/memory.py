"""The memory of the program's processes, sampled while they live."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from tests.stack import DevStack

EVERY_S = 1.0
WARM_AFTER_S = 15.0
_MB = 1024 * 1024
# What a process may grow by after its warm-up: rings, caches and heaps that fill up, never more with the run's length.
GROWTH_MB = {"supervisor": 40, "edge": 150, "worker": 200, "relay": 80, "kafka": 400, "postgres": 80}


@dataclass(slots=True)
class Life:
    """One process: `(age in seconds, resident MB)`."""

    role: str
    samples: list[tuple[float, float]] = field(default_factory=list)

    @property
    def growth_mb(self) -> float | None:
        """From its warm-up to its last samples; None if it did not live long enough to tell."""
        warm = [mb for age_s, mb in self.samples if WARM_AFTER_S <= age_s < WARM_AFTER_S + 10]
        if len(warm) < 5 or self.samples[-1][0] < WARM_AFTER_S + 20:
            return None
        return statistics.median([mb for _, mb in self.samples[-5:]]) - statistics.median(warm)


class Memory:
    """Samples every process of the ready file and the supervisor itself."""

    def __init__(self, stack: DevStack) -> None:
        self._stack = stack
        self._supervisor_pid = psutil.Process(stack.pid("relay")).ppid()
        self.lives: dict[tuple[int, float], Life] = {}

    async def sample_forever(self) -> None:
        """Until cancelled."""
        while True:
            self._sample()
            await asyncio.sleep(EVERY_S)

    def faults(self) -> list[str]:
        """Processes that grew beyond their bound."""
        return [
            f"{life.role} grew by {life.growth_mb:.0f} MB, more than {GROWTH_MB[life.role]}"
            for life in self.lives.values()
            if life.growth_mb is not None and life.growth_mb > GROWTH_MB[life.role]
        ]

    def by_role(self) -> Mapping[str, dict[str, float]]:
        """The highest resident size and the largest growth, in MB."""
        found: dict[str, dict[str, float]] = {}
        for life in self.lives.values():
            row = found.setdefault(life.role, {"processes": 0, "max_mb": 0.0, "growth_mb": 0.0})
            row["processes"] += 1
            row["max_mb"] = max(row["max_mb"], *(mb for _, mb in life.samples))
            row["growth_mb"] = max(row["growth_mb"], life.growth_mb or 0.0)
        return found

    def _sample(self) -> None:
        report = self._stack.report()
        pids = [(str(p["role"]), int(p["pid"])) for p in report["processes"]]
        for role, pid in [*pids, ("supervisor", self._supervisor_pid)]:
            try:
                process = psutil.Process(pid)
                born_s, mb = process.create_time(), process.memory_info().rss / _MB
            except psutil.NoSuchProcess:
                continue
            life = self.lives.setdefault((pid, born_s), Life(role))
            life.samples.append((time.time() - born_s, mb))
