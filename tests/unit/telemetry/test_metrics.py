"""The metrics' module: typed names of the rooms' own prefixes, each described and each exposed."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.metrics import METRICS, Described, exposition

PREFIXES = {"http", "llm", "db", "kafka", "stream", "ingest", "service", "process"}


def _exposed() -> dict[str, str]:
    """Kinds by the name under which queries find a family."""
    families = text_string_to_metric_families(exposition()[0].decode())
    return {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in families}


def test_what_is_described_is_what_is_exposed() -> None:
    assert {name: described.kind for name, described in METRICS.items()} == _exposed()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_says_what_it_means_and_what_to_do(metric: Described) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", metric.name)
    assert metric.name.partition("_")[0] in PREFIXES
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.unit
    assert metric.meaning.endswith(".")
    assert metric.remedy.endswith(".")
