"""PostgreSQL stops: the dashboard's query shows it, and of all alerts exactly the right one fires."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml

from ragline.dev_stack.embedded import EmbeddedServers
from ragline.dev_stack.home import free_port
from ragline.settings import Settings
from ragline.wiring.relay import relaying
from telemetry.metrics import KAFKA_DEAD_LETTERS
from tests.databases import drop_database
from tests.deploy.test_dashboards_and_alerts import ALERTS, DASHBOARDS, PROMETHEUS, promtool
from tests.integration.edge.world import Person, RunningEdge
from tests.integration.telemetry.samples import Samples

EVERY_S = 15
BEFORE, DURING, AFTER = 8, 4, 8
"""Scrapes: what is recorded in seconds stands for a minute's outage."""
QUERY = next(
    str(panel["targets"][0]["expr"])
    for panel in DASHBOARDS["log-and-database"]["panels"]
    if panel["title"] == "PostgreSQL can be reached"
)


@pytest.fixture
async def dsn(servers: EmbeddedServers, migrated_template: str) -> AsyncIterator[str]:
    """A fresh database, by connections that do not outlive their statement: the server is killed."""
    name, stem = f"test_{uuid.uuid4().hex[:12]}", servers.postgres_dsn.rpartition("/")[0]
    admin = await asyncpg.connect(f"{stem}/postgres")
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"')
    await admin.close()
    yield f"{stem}/{name}"
    admin = await asyncpg.connect(f"{stem}/postgres")
    await drop_database(admin, name)
    await admin.close()


async def _until_health_is(wanted: float, page: httpx.AsyncClient) -> Samples:
    async with asyncio.timeout(40):
        while True:
            found = Samples((await page.get("/metrics")).text)
            if found.get("service_health", service="postgres") == wanted:
                return found
            await asyncio.sleep(0.1)


async def test_a_stopped_postgresql_shows_and_fires_one_alert(
    servers: EmbeddedServers, dsn: str, edge: RunningEdge, somebody: Person, tmp_path: Path
) -> None:
    failures: list[BaseException] = []
    settings = Settings.model_validate(
        {
            "home": tmp_path,
            "kafka_bootstrap": servers.kafka_bootstrap,
            "postgres_dsn": dsn,
            "telemetry": {"metrics_port": free_port(taken=set())},
        }
    )
    async with (
        relaying(settings, failures.append),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.telemetry.metrics_port}", timeout=10) as page,
        edge.client(somebody) as client,
    ):
        await client.get("/api/v1/sessions")
        async with asyncio.timeout(60):
            while not _has_inspected((await page.get("/metrics")).text):
                await asyncio.sleep(0.1)
        KAFKA_DEAD_LETTERS.clear()  # of what other tests left on the topics: an alert would see their series begin
        before = await _until_health_is(1, page)
        await servers.kill("postgres")
        try:
            assert (await client.get("/api/v1/sessions")).status_code == 503
            during = await _until_health_is(0, page)
        finally:
            await servers.restart("postgres")
        after = await _until_health_is(1, page)
    assert during.total("db_errors_total") > before.total("db_errors_total")
    route = {"method": "GET", "route": "/api/v1/sessions", "status": "5xx"}
    assert during.get("http_request_seconds_count", **route) > before.get("http_request_seconds_count", **route)
    assert not failures
    _check_with_promtool([before] * BEFORE + [during] * DURING + [after] * AFTER, tmp_path)


def _has_inspected(metrics: str) -> bool:
    """Whether the relay has seen all that stands on the topics that it inspects."""
    lags = [line for line in metrics.splitlines() if line.startswith('kafka_consumer_lag{group="inspector-')]
    return bool(lags) and all(line.endswith(" 0.0") for line in lags)


def _check_with_promtool(scrapes: Sequence[Samples], folder: Path) -> None:
    """The dashboard's query and every alert, over what was scraped."""
    down_s, fires_s = BEFORE * EVERY_S, (BEFORE + 2) * EVERY_S
    up_s = (BEFORE + DURING) * EVERY_S
    labels = 'min by (service) (service_health{service="postgres"})'
    assert labels == QUERY
    shown = [
        {
            "expr": QUERY,
            "eval_time": f"{at_s}s",
            "exp_samples": [{"labels": '{service="postgres"}', "value": value}],
        }
        for at_s, value in ((down_s - EVERY_S, 1), (down_s, 0), (up_s, 1))
    ]
    right: dict[str, Any] = {
        "exp_labels": {**ALERTS["PostgresAway"]["labels"], "service": "postgres"},
        "exp_annotations": ALERTS["PostgresAway"]["annotations"],
    }
    fired = [
        {
            "eval_time": f"{at_s}s",
            "alertname": alert,
            "exp_alerts": [right] if (alert, at_s) == ("PostgresAway", fires_s) else [],
        }
        for alert in ALERTS
        for at_s in (down_s, fires_s, up_s)
    ]
    series = sorted({name for scrape in scrapes for name in scrape.series})
    test = {
        "rule_files": [str(PROMETHEUS / "alerts.yml")],
        "evaluation_interval": f"{EVERY_S}s",
        "tests": [
            {
                "interval": f"{EVERY_S}s",
                "input_series": [
                    {"series": name, "values": " ".join(str(scrape.series.get(name, "_")) for scrape in scrapes)}
                    for name in series
                ],
                "promql_expr_test": shown,
                "alert_rule_test": fired,
            }
        ],
    }
    path = folder / "outage_test.yml"
    path.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool(), "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
