"""Traces: one a message, from the request through Kafka to the provider and back; nothing a chunk.

Off, nothing is made: `begin` returns None after one look. What travels is the W3C `traceparent`, in headers of HTTP and
of records; its last bit says whether the trace is kept, and was decided where it began.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Literal, Protocol

Attributes = Mapping[str, str | int | float | bool]
SpanKind = Literal["internal", "server", "client", "producer", "consumer"]

CURRENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The traceparent of what this task works on; log lines name its trace."""


class Span(Protocol):
    """One step that is being timed. Nobody sees one that is not ended."""

    @property
    def traceparent(self) -> str:
        """What the steps that follow from this one are given."""
        ...

    def end(self, attributes: Attributes | None = None, *, name: str | None = None, error: str | None = None) -> None:
        """Done; `error` is a code, never a message."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them where they are kept."""

    @property
    def ratio(self) -> float:
        """The part of new traces that is kept, 0 to 1."""
        ...

    def begin(self, name: str, parent: str | None, kind: SpanKind, attributes: Attributes | None) -> Span:
        """A span that is kept."""
        ...


_ODD = tuple("13579bdf")


class _State:
    tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """From now on this process traces; None: it does not."""
    _State.tracer = tracer


def flags_of_a_new_trace() -> str:
    """`01` or, for a trace that is not kept, `00`."""
    tracer = _State.tracer
    return "01" if tracer is None or random.random() < tracer.ratio else "00"  # noqa: S311 - a sample


def begin(
    name: str, *, parent: str | None, kind: SpanKind = "internal", attributes: Attributes | None = None
) -> Span | None:
    """A step of the trace that `parent` (a traceparent) belongs to, or of a new one.

    None if tracing is off, the trace is not kept, or `parent` is none of ours.
    """
    tracer = _State.tracer
    if tracer is None or (parent is not None and not _is_kept(parent)):
        return None
    return tracer.begin(name, parent, kind, attributes)


def _is_kept(traceparent: str) -> bool:
    """The last bit; a record's header may hold anything."""
    if not traceparent.endswith(_ODD):
        return False
    parts = traceparent.split("-")
    try:
        return len(traceparent) == 55 and parts[0] == "00" and int(parts[1], 16) > 0 and int(parts[2], 16) > 0
    except (ValueError, IndexError):
        return False
