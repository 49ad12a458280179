"""A worker's and the relay's own page: metrics, health, and what waits even when nobody works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from consumers.relay.lags import GROUPS
from ragline.dev_stack.embedded import EmbeddedServers
from ragline.dev_stack.home import free_port
from ragline.settings import Settings, SettingsError
from ragline.status import Status, status_page
from ragline.wiring.relay import relaying
from ragline.wiring.worker import Worker
from schemas.commands import CreateSession
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_COMMANDS
from storage.log.producer import LogProducer
from tests.integration.telemetry.samples import Samples

LAG = {"group": "transcript", "topic": "chat.commands.v1"}


def _settings(servers: EmbeddedServers, dsn: str, home: Path) -> Settings:
    return Settings.model_validate(
        {
            "home": home,
            "kafka_bootstrap": servers.kafka_bootstrap,
            "postgres_dsn": dsn,
            "telemetry": {"metrics_port": free_port(taken=set())},
        }
    )


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.telemetry.metrics_port}", timeout=10) as client:
        yield client


async def _until(client: httpx.AsyncClient, holds: Callable[[Samples], bool], *, within_s: float = 30.0) -> Samples:
    async with asyncio.timeout(within_s):
        while True:
            samples = Samples((await client.get("/metrics")).text)
            if holds(samples):
                return samples
            await asyncio.sleep(0.05)


async def _live(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await client.get("/health/live")
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
                continue
            assert answer.json() == {"status": "live"}
            return


async def _ready(client: httpx.AsyncClient) -> dict[str, str]:
    async with asyncio.timeout(20):
        while (answer := await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.05)
    checks: dict[str, str] = answer.json()["checks"]
    return checks


async def test_the_relay_sees_what_waits_without_a_worker_and_the_worker_takes_it_away(
    servers: EmbeddedServers, dsn: str, producer: LogProducer, tmp_path: Path
) -> None:
    failures: list[BaseException] = []
    settings, workers = _settings(servers, dsn, tmp_path), _settings(servers, dsn, tmp_path)
    for _ in range(3):
        id_ = new_id()
        command = Envelope(body=CreateSession(session_id=id_), tenant_id=new_id(), user_id=new_id(), source="test")
        await producer.publish(CHAT_COMMANDS, command, timeout_s=5)
    async with relaying(settings, failures.append), _client(settings) as relay:
        seen = await _until(relay, lambda found: found.get("kafka_consumer_lag", **LAG) >= 3)
        assert 0 < seen.get("kafka_oldest_unprocessed_seconds", **LAG) < 600
        worker = Worker(workers, ["transcript", "message_search"], failures.append)
        await worker.start()
        async with _client(workers) as page:
            assert await _ready(page) == {"postgres": "ok", "kafka": "ok", "consumers": "ok"}
            await _live(page)
            assert (await page.get("/nothing")).status_code == 404
            await _until(page, lambda found: found.get("kafka_records_consumed_total", **LAG) >= 3)
            gone = await _until(relay, lambda found: found.get("kafka_consumer_lag", **LAG) == 0)
            assert gone.get("kafka_oldest_unprocessed_seconds", **LAG) == 0
            assert 0 < gone.get("service_disk_free_ratio") < 1
            groups = set(worker.subscribers.runners)
        await worker.stop()
    assert groups == {"transcript", "message_search"}
    assert not failures


async def test_every_group_is_watched(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> None:
    settings = _settings(servers, dsn, tmp_path).model_copy(update={"telemetry": Settings().telemetry})
    worker = Worker(settings, (), lambda error: None)
    await worker.start()
    groups = {(group, runner.topic) for group, runner in worker.subscribers.runners.items()}
    await worker.stop()
    assert groups <= set(GROUPS)
    assert {group for group, _ in GROUPS if not group.startswith("inspector-")} == {group for group, _ in groups}


async def test_a_taken_port_is_a_wrong_setting() -> None:
    port = free_port(taken=set())
    async with status_page(port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await _live(client)
        with pytest.raises(SettingsError, match=rf"setting telemetry\.metrics_port: 127\.0\.0\.1:{port}"):
            async with status_page(port):
                pass


async def test_a_check_that_hangs_is_an_answer_and_is_not_asked_twice() -> None:
    n_asked, release = 0, asyncio.Event()

    async def hangs() -> str:
        nonlocal n_asked
        n_asked += 1
        await release.wait()
        return "ok"

    status = Status()
    status.add("slow", hangs)
    status.started()
    await status.ask(answer_within_s=0.01)
    await status.ask(answer_within_s=0.01)
    assert (status.checks, n_asked) == ({"slow": "does not answer"}, 1)
    release.set()
    await status.ask()
    assert status.checks == {"slow": "ok"}
