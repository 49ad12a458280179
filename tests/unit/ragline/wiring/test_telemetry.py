"""What a process tells of itself is what its settings say, and only while it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ragline.settings import Settings, SettingsError
from ragline.wiring.telemetry import telling
from telemetry import tracing
from tests.collector import collecting

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _settings(home: Path, **telemetry: Any) -> Settings:
    return Settings.model_validate({"home": home, "telemetry": telemetry})


async def test_traces_and_reports_go_where_the_settings_say(tmp_path: Path) -> None:
    logger = logging.getLogger("room")
    with collecting() as collector:
        async with telling(_settings(tmp_path, otlp_endpoint=collector.url, sentry_dsn=collector.dsn), "worker"):
            span = tracing.begin("step", parent=KEPT)
            assert span is not None
            span.end()
            logger.error("it failed: %s", "secret")
        logger.error("nobody is told of this")
        assert tracing.begin("step", parent=KEPT) is None
    assert [(seen.name, seen.service) for seen in collector.spans] == [("step", "ragline-worker")]
    [report] = collector.reports
    assert (report["logentry"]["message"], report["tags"]["process"]) == ("it failed: %s", "worker")
    assert b"secret" not in b"".join(collector.bodies)


async def test_by_default_nothing_is_told(tmp_path: Path) -> None:
    handlers = list(logging.getLogger().handlers)
    async with telling(_settings(tmp_path), "worker"):
        assert tracing.begin("step", parent=KEPT) is None
        assert logging.getLogger().handlers == handlers


async def test_a_wrong_address_for_reports_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"setting telemetry\.sentry_dsn: "):
        async with telling(_settings(tmp_path, sentry_dsn="nonsense"), "worker"):
            pass
