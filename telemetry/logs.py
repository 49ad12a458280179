"""Log lines as JSON, with the trace they belong to and without content: no texts of users, documents or providers."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import orjson

from telemetry.metrics import SERVICE_ERRORS
from telemetry.tracing import CURRENT

_OUR_WORDS = {"Retry", "Stop", "LogTruncated", "SettingsError"}
"""Errors whose message Ragline writes itself, about servers and settings. All others may quote what they choked on."""

_PUTS_TOGETHER = "asyncio"
"""A library whose lines hold the error and the arguments of what failed, as one text."""
_FIRST_WORDS = re.compile(r"[A-Za-z ,']*")


def trace_id() -> str | None:
    """The trace of what is being worked on."""
    traceparent = CURRENT.get()
    return None if traceparent is None else traceparent[3:35]


def told(error: BaseException) -> str:
    """An error as a log may show it: its message only if it is ours, else its type and stable code."""
    name = type(error).__name__
    if name in _OUR_WORDS:
        return str(error)
    code = getattr(error, "code", None) or getattr(error, "reason", None)
    return f"{name}({code})" if isinstance(code, str) and code.isidentifier() else name


def frames(trace: TracebackType | None) -> list[str]:
    """Where it happened, outermost first, as `file:line function`; no source lines, no values."""
    return [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(trace, limit=-30)]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `trace_id`, and `error` with its `frames`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": message(record),
        }
        if (trace := trace_id()) is not None:
            line["trace_id"] = trace
        if record.exc_info and (error := record.exc_info[1]) is not None:
            said = _readable(told(error))
            line["error"] = {"type": type(error).__name__, "told": said, "frames": frames(record.exc_info[2])}
        return orjson.dumps(line, default=str).decode()


def template(record: logging.LogRecord) -> str:
    """The line without its arguments."""
    text = str(record.msg)
    if record.name == _PUTS_TOGETHER and (words := _FIRST_WORDS.match(text)):
        return words[0].strip()
    return text


def message(record: logging.LogRecord) -> str:
    """The message, with errors among its arguments told as a log may."""
    text, given = template(record), record.args
    if isinstance(given, Mapping):
        text %= {name: _shown(one) for name, one in given.items()}
    elif given and record.name != _PUTS_TOGETHER:
        text %= tuple(map(_shown, given))
    return _readable(text)


def _shown(argument: object) -> object:
    return told(argument) if isinstance(argument, BaseException) else argument


def _readable(text: str) -> str:
    """Text that JSON can hold: a file's name may have bytes that are none of UTF-8."""
    return text.encode(errors="backslashreplace").decode()


class ErrorCounter(logging.Handler):
    """Counts what is logged as an error, by logger."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        """Counts."""
        SERVICE_ERRORS.labels(record.name).inc()
