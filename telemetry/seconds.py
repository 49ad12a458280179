"""Durations by buckets. It is on the way of every request, so it costs a fraction of prometheus_client's histogram."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Series:
    """One combination of labels. Not locked: only the loop's thread may observe."""

    __slots__ = ("_bounds", "counts", "total_s")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total_s += seconds

    @contextmanager
    def time(self) -> Iterator[None]:
        """Counts how long the block takes, whatever its end."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began_s)


class Seconds(Collector):
    """A histogram of Prometheus' kind. Without labels it counts from the start; with them, what was named."""

    def __init__(
        self, name: str, meaning: str, labels: Sequence[str], buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._meaning, self._labels = name, meaning, tuple(labels)
        self._bounds = tuple(buckets)
        self._series: dict[tuple[str, ...], Series] = {}
        if not self._labels:
            self.observe = self.labels().observe
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series of these values, in the order of the labels; keep it where it is used often."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}, not {len(values)}")
            series = self._series[values] = Series(self._bounds)
        return series

    def describe(self) -> list[HistogramMetricFamily]:
        """The family, without samples."""
        return [HistogramMetricFamily(self._name, self._meaning, labels=self._labels)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family with its samples."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        for values, series in list(self._series.items()):
            cumulated = list(accumulate(series.counts))
            family.add_metric(values, list(zip(names, cumulated, strict=True)), sum_value=series.total_s)
        yield family
