"""Reports in Sentry's protocol: a line's template, an error's type and frames; never what they were about."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from telemetry.error_reports import ErrorReports
from telemetry.tracing import CURRENT
from tests.collector import Collector, collecting

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def _fail(value: str) -> None:
    raise ValueError(f"it was {value}")


def test_an_error_is_reported_without_content(collector: Collector) -> None:
    reports = ErrorReports(collector.dsn, process="worker", version="1.2.3")
    logger = logging.Logger("room")
    logger.addHandler(reports)
    token = CURRENT.set(TRACEPARENT)
    try:
        _fail("secret")
    except ValueError:
        logger.exception("document %s failed", "secret")
    finally:
        CURRENT.reset(token)
    logger.warning("this is no error")
    reports.stop()
    [report] = collector.reports
    assert (report["logger"], report["level"], report["release"]) == ("room", "error", "ragline@1.2.3")
    assert report["logentry"]["message"] == "document %s failed"
    assert report["contexts"]["trace"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    [error] = report["exception"]["values"]
    assert (error["type"], error["stacktrace"]["frames"][-1]["function"]) == (
        "ValueError",
        "_fail",
    )
    assert b"secret" not in b"".join(collector.bodies)


def test_a_wrong_dsn_is_told() -> None:
    with pytest.raises(ValueError, match=r"(?i)dsn|scheme"):
        ErrorReports("nonsense", process="worker", version="1")
