"""Numbers: samples of alternating rounds, percentiles, and the rows of the table."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is what `limit` speaks of; `ok` is None for what is only shown."""

    line: str
    measure: str
    limit: str
    baseline: str
    ours: str
    ratio: str
    ok: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sides:
    """What every round measured, by side: `sides["ours"]` is one sample a round."""

    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __getitem__(self, side: str) -> float:
        """The median over the rounds."""
        return median(self.samples[side])

    def spread(self, side: str) -> str:
        """Least and greatest round, for the notes."""
        return f"{number(min(self.samples[side]))}–{number(max(self.samples[side]))}"


async def alternate(n_rounds: int, sides: Mapping[str, Callable[[], Awaitable[float]]]) -> Sides:
    """ABAB…: every side once a round, the order turned round in every other round."""
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for number_ in range(n_rounds):
        for side in list(sides)[:: 1 if number_ % 2 == 0 else -1]:
            samples[side].append(await sides[side]())
    return Sides(samples)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of the values do not exceed (nearest rank); nan for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float) -> str:
    """Three digits that mean something."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def at_least(line: str, measure: str, *, ours: float, baseline: float, factor: float, unit: str, note: str = "") -> Row:
    """`ours` shall be at least `factor` × `baseline`."""
    ratio = ours / baseline
    return Row(
        line,
        measure,
        f"≥ {number(factor)} ×",
        f"{number(baseline)} {unit}",
        f"{number(ours)} {unit}",
        number(ratio),
        ratio >= factor,
        note,
    )


def at_most(line: str, measure: str, *, ours: float, baseline: float, factor: float, unit: str, note: str = "") -> Row:
    """`ours` shall be at most `factor` × `baseline`."""
    ratio = ours / baseline
    return Row(
        line,
        measure,
        f"≤ {number(factor)} ×",
        f"{number(baseline)} {unit}",
        f"{number(ours)} {unit}",
        number(ratio),
        ratio <= factor,
        note,
    )


def cpu_s(*pids: int) -> float:
    """User and system seconds that these processes have used so far."""
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def rss_bytes(*pids: int) -> int:
    """What these processes hold in memory."""
    return sum(int(psutil.Process(pid).memory_info().rss) for pid in pids)
