"""Errors to a server that speaks Sentry's protocol: type, place and trace; never a message's arguments or a value."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any

from telemetry.logs import frames, template, trace_id

if TYPE_CHECKING:
    from sentry_sdk.types import Event

_OWN = "sentry_sdk"


class ErrorReports(logging.Handler):
    """Reports every log line of level ERROR and above. Imported lazily: `sentry_sdk` costs a start 0.1 s."""

    def __init__(self, dsn: str, *, process: str, version: str) -> None:
        super().__init__(logging.ERROR)
        import sentry_sdk

        self._client = sentry_sdk.Client(
            dsn,
            release=f"ragline@{version}",
            server_name=process,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            max_breadcrumbs=0,
            shutdown_timeout=2,
        )
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """One report: the line's template without its arguments, and the error's type and frames."""
        if record.name.startswith(_OWN):
            return
        event: dict[str, Any] = {
            "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
            "logger": record.name,
            "logentry": {"message": template(record)},
            "tags": {"process": self._process},
        }
        if (trace := trace_id()) is not None:
            event["contexts"] = {"trace": {"trace_id": trace, "span_id": trace[:16]}}
        if record.exc_info and record.exc_info[1] is not None:
            event["exception"] = {"values": [_exception(record.exc_info[1], record.exc_info[2])]}
        self._client.capture_event(_typed(event))

    def stop(self) -> None:
        """Sends what is waiting, for 2 s at most."""
        self._client.close(timeout=2.0)


def _exception(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    places = [place.rsplit(" ", 1) for place in frames(trace)]
    return {
        "type": type(error).__name__,
        "module": type(error).__module__,
        "stacktrace": {"frames": [_frame(place, function) for place, function in places]},
    }


def _frame(place: str, function: str) -> dict[str, Any]:
    file_name, _, line = place.rpartition(":")
    return {"filename": file_name, "function": function, "lineno": int(line)}


def _typed(event: dict[str, Any]) -> Event:
    return event  # type: ignore[return-value]
