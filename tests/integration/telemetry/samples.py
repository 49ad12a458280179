"""What a scrape says, by name and labels."""

from __future__ import annotations

import math
from functools import cached_property

from prometheus_client.parser import text_string_to_metric_families

from telemetry.metrics import exposition


class Samples:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = text_string_to_metric_families(text)
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """The value of one series; 0 for one that is not there."""
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str) -> float:
        """The sum of all series of a name."""
        return sum(value for (found, _), value in self._values.items() if found == name)

    @cached_property
    def series(self) -> dict[str, float]:
        """Every number, by its name as PromQL writes it."""
        return {
            name + "{" + ", ".join(f'{label}="{text}"' for label, text in sorted(labels)) + "}": value
            for (name, labels), value in self._values.items()
            if math.isfinite(value)
        }

    def labels(self, name: str, label: str) -> set[str]:
        """Every value of a label."""
        return {dict(labels)[label] for found, labels in self._values if found == name}


def here() -> Samples:
    """What this process would answer."""
    return Samples(exposition()[0].decode())
