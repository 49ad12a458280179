"""In the path of a process that is measured without metrics: nothing counts, nothing is observed."""

from __future__ import annotations

import prometheus_client

from telemetry.seconds import Series


def _nothing(*_: object, **__: object) -> None:
    """Does not count."""


prometheus_client.Counter.inc = _nothing  # type: ignore[method-assign]
prometheus_client.Gauge.set = _nothing  # type: ignore[method-assign]
Series.observe = _nothing  # type: ignore[method-assign]
