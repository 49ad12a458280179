"""An edge that is told to end cuts nobody off: who waits is answered, who reads is told to go on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.ids import new_id
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import upload
from tests.integration.edge.world import Person, RunningEdge, events_of, eventually, running_edge


@pytest.fixture
async def lonely(
    servers: EmbeddedServers, somebody: Person, database: Database, producer: LogProducer, tmp_path: Path
) -> AsyncIterator[RunningEdge]:
    """An edge without a consumer: what is posted is safe, and nothing follows from it."""
    async with running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path)) as edge:
        yield edge


async def waiting(edge: RunningEdge, n: int) -> None:
    """Returns when so many requests wait for what follows from their commands."""

    async def wait() -> bool:
        return len(edge.edge._running.events._by_cause) == n

    await eventually(wait)


async def test_who_waits_for_an_effect_is_answered_that_it_will_come(lonely: RunningEdge, somebody: Person) -> None:
    async with lonely.client(somebody) as client:
        url, wait = f"/api/v1/sessions/{new_id()}", {"prefer": "wait=60"}
        asked = [
            asyncio.create_task(client.post("/api/v1/sessions", json={}, headers=wait)),
            asyncio.create_task(client.post(f"{url}/messages", json={"content": "q"}, headers=wait)),
            asyncio.create_task(client.patch(url, json={"name": "n"}, headers=wait)),
            asyncio.create_task(client.delete(url, headers=wait)),
            asyncio.create_task(upload(client, headers=wait)),
        ]
        await waiting(lonely, len(asked))
        lonely.edge.stop_streams()
        async with asyncio.timeout(3):
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {202}
        assert answers[0].json()["status"] == answers[1].json()["completion"]["status"] == "accepted"


async def test_who_posts_and_reads_is_told_to_go_on_elsewhere(lonely: RunningEdge, somebody: Person) -> None:
    async with lonely.client(somebody) as client:
        url = f"/api/v1/sessions/{new_id()}/messages"
        for wait in ("wait=0", "wait=60"):
            headers = {"accept": "text/event-stream", "prefer": wait}

            async def read(headers: dict[str, str] = headers) -> list[tuple[str, str]]:
                async with client.stream("POST", url, json={"content": "q"}, headers=headers) as response:
                    said = [event async for event in events_of(response)]
                return [(event.name, event.data.get("status") or event.data["code"]) for event in said]

            reading = asyncio.create_task(read())
            if not lonely.edge._running.streams.is_stopping:
                await waiting(lonely, 1)
                lonely.edge.stop_streams()
            async with asyncio.timeout(3):
                assert await reading == [("started", "accepted"), ("error", "edge_stopping")]
