"""JSON logs: what happened where and in which trace; what it happened to stays out."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from providers.ports import ProviderError
from schemas.errors import DeadLetter, Retry
from telemetry.logs import ErrorCounter, JsonFormatter, template
from telemetry.metrics import SERVICE_ERRORS
from telemetry.tracing import CURRENT

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, Any]:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("room", logging.WARNING, __file__, 1, message, arguments, info)
    line: dict[str, Any] = json.loads(JsonFormatter("worker").format(record))
    return line


def test_a_line_says_when_who_what_and_in_which_trace() -> None:
    token = CURRENT.set(TRACEPARENT)
    try:
        line = _line("%s: %d records", "transcript", 3)
    finally:
        CURRENT.reset(token)
    assert line.pop("time")[10] == "T"
    assert line == {
        "level": "warning",
        "process": "worker",
        "logger": "room",
        "message": "transcript: 3 records",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    assert "trace_id" not in _line("nothing is worked on")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Retry("PostgreSQL: it is away"), "PostgreSQL: it is away"),
        (ProviderError("bad_request", "your prompt: secret", retryable=False), "ProviderError(bad_request)"),
        (DeadLetter("malformed_body", "content: secret"), "DeadLetter(malformed_body)"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_an_error_is_told_by_its_own_words_only_if_they_are_ours(error: Exception, told: str) -> None:
    assert _line("it failed: %s", error)["message"] == f"it failed: {told}"


def test_a_traceback_is_places_without_values() -> None:
    def fail() -> None:
        raise ValueError("secret")

    try:
        fail()
    except ValueError:
        error = sys.exc_info()[1]
    line = _line("it failed", error=error)
    assert line["error"]["type"] == "ValueError"
    assert [frame.rsplit(" ", 1)[1] for frame in line["error"]["frames"]] == [
        "test_a_traceback_is_places_without_values",
        "fail",
    ]
    assert "secret" not in json.dumps(line)


class _Kept(logging.Handler):
    """Lines as a JSON log has them, and what a report would be made of."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [JsonFormatter("edge").format(record), template(record)]


@pytest.fixture
def of_asyncio() -> Iterator[_Kept]:
    logger, kept = logging.getLogger("asyncio"), _Kept()
    level = logger.level
    logger.setLevel(logging.ERROR)  # a command that ran in this process may have silenced it
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(level)


async def test_what_asyncio_says_of_a_failure_has_no_values(of_asyncio: _Kept) -> None:
    async def fail() -> None:
        raise ValueError("a secret")

    failing = asyncio.create_task(fail())
    await asyncio.wait([failing])
    del failing
    gc.collect()
    asyncio.get_running_loop().call_soon(int, "a secret")
    await asyncio.sleep(0)
    lines = "\n".join(of_asyncio.lines)
    assert "Task exception was never retrieved" in lines
    assert "Exception in callback" in lines
    assert '"ValueError"' in lines
    assert "secret" not in lines


def test_named_arguments_are_told_as_the_others_are() -> None:
    assert _line("%(what)s: %(why)s", {"what": "it failed", "why": ValueError("secret")})["message"] == (
        "it failed: ValueError"
    )


def test_a_name_that_is_no_text_does_not_break_its_line() -> None:
    assert _line("%s cannot be read", "a\udcff")["message"] == "a\\udcff cannot be read"


def test_errors_are_counted_by_logger() -> None:
    logger = logging.Logger("counted")
    logger.addHandler(ErrorCounter())
    logger.warning("no")
    logger.error("yes")
    assert SERVICE_ERRORS.labels("counted")._value.get() == 1
