"""Which requests are seen in traces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from producers.edge.asgi import Scope
from producers.edge.caller import trace_of
from producers.edge.request_metrics import begin_trace, end_trace
from telemetry import tracing

FORCED = {b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class _Kept:
    """A tracer and its spans in one: keeps the names of what ended."""

    ratio, traceparent = 0.0, FORCED[b"traceparent"].decode()

    def __init__(self) -> None:
        self.ended: list[str | None] = []

    def begin(self, name: str, parent: str | None, kind: tracing.SpanKind, _: tracing.Attributes | None) -> _Kept:
        return self

    def end(self, _: tracing.Attributes | None = None, *, name: str | None = None, error: str | None = None) -> None:
        self.ended.append(name)


@pytest.fixture
def kept() -> Iterator[_Kept]:
    tracer = _Kept()
    tracing.trace_with(tracer)
    yield tracer
    tracing.trace_with(None)


def _request(method: str, status: int) -> None:
    scope: Scope = {"type": "http", "path": "/api/v1/sessions", "method": method}
    end_trace(begin_trace(scope, trace_of(FORCED)), scope, "/api/v1/sessions", status)


def test_who_has_no_key_fills_no_traces(kept: _Kept) -> None:
    _request("GET", 401)
    assert kept.ended == []
    _request("GET", 404)
    assert kept.ended == ["GET /api/v1/sessions"]


def test_a_method_that_is_none_is_no_name(kept: _Kept) -> None:
    _request("SECRET", 405)
    assert kept.ended == ["other /api/v1/sessions"]
