"""What a run found, for people and for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.playing import Played
from tests.chaos.reading import Gap
from tests.chaos.striker import Blow

RECOVERS_WITHIN_S = {"worker": 5.0, "edge": 5.0, "relay": 0.0, "kafka": 15.0, "postgres": 3.0}


@dataclass(slots=True)
class Gaps:
    """Seconds in which readers saw nothing while their answer changed hands."""

    n: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0

    @classmethod
    def of(cls, gaps: Sequence[Gap]) -> Gaps:
        """Of these gaps."""
        lengths = sorted(gap.length_s for gap in gaps)
        if not lengths:
            return cls()
        n = len(lengths)
        return cls(n, _at(lengths, 0.5), _at(lengths, 0.99), lengths[-1])

    def __str__(self) -> str:
        return f"{self.n} take-overs, p50 {self.p50_s:.2f} s, p99 {self.p99_s:.2f} s, max {self.max_s:.2f} s"


@dataclass(slots=True)
class Report:
    """A whole run. It is good if there are no faults."""

    seed: int
    minutes: float
    streams: int
    kills: dict[str, int] = field(default_factory=dict)
    freezes: dict[str, int] = field(default_factory=dict)
    n_missed_strikes: int = 0
    n_streams: dict[str, int] = field(default_factory=dict)
    n_connections: int = 0
    n_resets: int = 0
    n_attempts: int = 0
    gaps: Gaps = field(default_factory=Gaps)
    gaps_of_one_kill: Gaps = field(default_factory=Gaps)
    words_paid: dict[str, int] = field(default_factory=dict)
    words_needed: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    memory: Mapping[str, dict[str, float]] = field(default_factory=dict)
    tracebacks: dict[str, int] = field(default_factory=dict)
    quiet_after_s: float = 0.0
    took_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    histories: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every promise held."""
        return not self.faults

    def ratio(self, model: str) -> float:
        """Words paid for each word needed."""
        return self.words_paid.get(model, 0) / max(1, self.words_needed.get(model, 0))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        ratios = {model: round(self.ratio(model), 4) for model in self.words_needed}
        return asdict(self) | {"is_good": self.is_good, "ratios": ratios}

    def text(self) -> str:
        """For people."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.n_streams.items())
        lines = [
            (
                f"chaos: seed {self.seed}, {self.minutes:g} min, {self.streams} at once: "
                f"{'GOOD' if self.is_good else 'FAILED'} in {self.took_s:.0f} s"
            ),
            (
                f"streams      {sum(self.n_streams.values())} ({kinds}) over {self.n_connections} connections, "
                f"{self.n_attempts} attempts, {self.n_resets} resets"
            ),
            f"kill -9      {sum(self.kills.values())} ({_counts(self.kills)})",
            (
                f"frozen       {sum(self.freezes.values())} ({_counts(self.freezes)}); "
                f"{self.n_missed_strikes} strikes found nobody"
            ),
            f"gap          {self.gaps}",
            f"one worker   {self.gaps_of_one_kill}",
        ]
        lines += [
            f"words        {model}: paid {self.words_paid[model]} / needed {needed} = {self.ratio(model):.3f}"
            for model, needed in self.words_needed.items()
        ]
        lines += [
            f"memory       {role}: {row['processes']:.0f} processes, at most {row['max_mb']:.0f} MB, "
            f"grew by at most {row['growth_mb']:.0f} MB"
            for role, row in sorted(self.memory.items())
        ]
        lines += [f"clients      {_counts(self.answers)}", f"quiet        {self.quiet_after_s:.1f} s after the end"]
        lines += [f"traceback    {n} times in a log: {last}" for last, n in self.tracebacks.items()]
        lines += [f"FAULT        {fault}" for fault in self.faults]
        return "\n".join([*lines, *self.histories])


def count_blows(report: Report, blows: Sequence[Blow]) -> None:
    """Kills and freezes by role."""
    report.kills = dict(sorted(Counter(blow.role for blow in blows if blow.is_kill).items()))
    report.freezes = dict(sorted(Counter(blow.role for blow in blows if not blow.is_kill).items()))


def tracebacks(folder: Path) -> dict[str, int]:
    """The last lines of the tracebacks in the program's logs: no fault by themselves, but worth a look."""
    found: Counter[str] = Counter()
    for log in sorted(folder.rglob("logs/*.log")):
        is_open = False
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("Traceback "):
                is_open = True
            elif is_open and line and not line[0].isspace():
                found[f"{log.stem.rpartition('-')[0]}: {line[:150]}"] += 1
                is_open = False
    return dict(found.most_common(10))


def count_gaps(report: Report, played: Sequence[Played], blows: Sequence[Blow]) -> None:
    """Of streams that the provider did not disturb; apart those in which one worker was killed and nothing else hit."""
    gaps = [gap for p in played if p.is_answer and not p.turn.is_disturbed for gap in p.reading.gaps]
    report.gaps = Gaps.of(gaps)
    report.gaps_of_one_kill = Gaps.of([gap for gap in gaps if _is_one_workers_death(gap, blows)])


def _is_one_workers_death(gap: Gap, blows: Sequence[Blow]) -> bool:
    """Nothing else was struck, or still recovering, while the reader waited."""
    hits = [b for b in blows if b.at_s <= gap.to_s and b.until_s + RECOVERS_WITHIN_S[b.role] >= gap.from_s]
    return [(b.role, b.is_kill) for b in hits] == [("worker", True)]


def _at(lengths: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return lengths[max(0, math.ceil(share * len(lengths)) - 1)]


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counted.items())) or "none"
