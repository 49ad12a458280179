"""Which traces are kept; what is not kept makes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from telemetry import tracing
from telemetry.otlp import OtlpTracer
from tests.collector import Collector, collecting

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def tracer(collector: Collector) -> Iterator[OtlpTracer]:
    made = OtlpTracer(collector.url, service="test", version="1", ratio=0.0)
    tracing.trace_with(made)
    yield made
    tracing.trace_with(None)
    made.stop()


def test_off_nothing_is_made_and_what_is_given_is_handed_on() -> None:
    assert tracing.begin("step", parent=KEPT) is None
    assert tracing.begin("step", parent=None) is None
    assert tracing.flags_of_a_new_trace() == "01"


@pytest.mark.parametrize(
    "parent",
    [f"{KEPT[:-2]}00", f"{KEPT[:-2]}02", "", "x" * 55, KEPT[:-1], f"ff{KEPT[2:]}", f"00-{'0' * 32}{KEPT[35:]}"],
)
def test_what_is_not_kept_or_no_traceparent_makes_nothing(tracer: OtlpTracer, parent: str) -> None:
    assert tracing.begin("step", parent=parent) is None


def test_the_ratio_decides_where_a_trace_begins(tracer: OtlpTracer) -> None:
    assert {tracing.flags_of_a_new_trace() for _ in range(50)} == {"00"}
    tracer.ratio = 1.0
    assert {tracing.flags_of_a_new_trace() for _ in range(50)} == {"01"}


def test_spans_arrive_with_parent_attributes_and_error(tracer: OtlpTracer, collector: Collector) -> None:
    root = tracing.begin("root", parent=None, kind="server")
    assert root is not None
    child = tracing.begin("child", parent=root.traceparent, attributes={"n": 3})
    assert child is not None
    child.end({"text": "a"}, error="timeout")
    root.end(name="GET /a")
    given = tracing.begin("given", parent=KEPT)
    assert given is not None
    given.end()
    unended = tracing.begin("unended", parent=KEPT)
    assert unended is not None
    tracer.stop()
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"GET /a", "child", "given"}
    assert spans["child"].parent_id == spans["GET /a"].id
    assert spans["child"].traceparent == child.traceparent
    assert (spans["child"].is_error, spans["GET /a"].is_error) == (True, False)
    assert spans["child"].attributes == {"n": 3, "text": "a", "error.type": "timeout"}
    assert (spans["given"].trace_id, spans["given"].parent_id) == (KEPT[3:35], KEPT[36:52])
    assert spans["given"].service == "test"


def test_a_collector_that_is_away_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the queue that it leaves: ten requests of it would be waited for."""
    away = OtlpTracer("http://127.0.0.1:9", service="test", version="1", ratio=1.0)
    for _ in range(5_000):
        away.begin("step", None, "internal", None).end()
    began_s = time.perf_counter()
    away.stop()
    assert time.perf_counter() - began_s < 12
    assert "127.0.0.1" in caplog.text
