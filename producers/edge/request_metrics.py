"""Requests as operators see them, in metrics and traces: by route template, never by path; by class of status."""

from __future__ import annotations

import functools
import time

from producers.edge.asgi import Scope
from producers.edge.caller import Trace
from telemetry import tracing
from telemetry.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS_IN_FLIGHT
from telemetry.seconds import Series

MESSAGES_ROUTE = "/api/v1/sessions/{session_id}/messages"
STREAM_ROUTE = "/api/v1/completions/{completion_id}/stream"
_UNMATCHED = "unmatched"
_KEPT = tuple("13579bdf")
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}


class InFlight:
    """Requests that this process is answering; a plain number, for it is changed twice a request."""

    n = 0


HTTP_REQUESTS_IN_FLIGHT.set_function(lambda: InFlight.n)


@functools.cache
def _series(method: str, route: str, status: str) -> Series:
    return HTTP_REQUEST_SECONDS.labels(method, route, status)


def observe(scope: Scope, route: str | None, status: int | None, seconds: float) -> None:
    """Counts one request; `status` None: the client was gone before its answer began."""
    status_class = "none" if status is None else f"{status // 100}xx"
    _series(_method(scope), route or _route(scope), status_class).observe(seconds)


def begin_trace(scope: Scope, trace: Trace) -> tracing.Span | None:
    """The request's own step in its trace, if it is kept."""
    if not scope["path"].startswith("/api/") or not trace.traceparent.endswith(_KEPT):
        return None
    return tracing.begin("http", parent=None if trace.is_new else trace.traceparent, kind="server")


def end_trace(span: tracing.Span | None, scope: Scope, route: str | None, status: int | None) -> None:
    """The answer has ended; for a stream that is its last event. Who has no key is not seen: they would be too many."""
    if span is None or status == 401:
        return
    method, template = _method(scope), route or _route(scope)
    attributes: tracing.Attributes = {
        "http.request.method": method,
        "http.route": template,
        "http.response.status_code": status or 0,
    }
    error = str(status) if status is not None and status >= 500 else None
    span.end(attributes, name=f"{method} {template}", error=error)


def now() -> float:
    """Seconds of a clock that only spans are taken from."""
    return time.perf_counter()


def _method(scope: Scope) -> str:
    """One of the known."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def _route(scope: Scope) -> str:
    """The template that the router found."""
    return getattr(scope.get("route"), "path", None) or _UNMATCHED
