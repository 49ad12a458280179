"""PostgreSQL or Kafka hang: what the edge still does, and what it says of what it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from producers.edge.app import EdgeLimits
from ragline.dev_stack.embedded import EmbeddedServers, ServerRole
from schemas.errors import Stop
from schemas.topics import CHAT_COMMANDS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import upload
from tests.integration.edge.test_messages import new_session, post
from tests.integration.edge.test_streams import asked, reading
from tests.integration.edge.world import Person, RunningEdge, Writer, events_of, eventually, person, running_edge, shown

pytestmark = pytest.mark.usefixtures("consumers")


@contextmanager
def frozen(servers: EmbeddedServers, role: ServerRole) -> Iterator[None]:
    """The server hangs while the block runs."""
    servers.freeze(role)
    try:
        yield
    finally:
        servers.thaw(role)


async def test_without_postgresql_messages_and_uploads_are_accepted_and_applied_later(
    edge: RunningEdge, somebody: Person, servers: EmbeddedServers
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        with frozen(servers, "postgres"):
            began = time.monotonic()
            first = await post(client, session_id, "one", headers={"prefer": "respond-async"})
            assert time.monotonic() - began < 0.5
            second = await post(client, session_id, "two", headers={"prefer": "wait=1"})
            document = await upload(client, headers={"prefer": "wait=0"})
            for answer in (first, second, document):
                assert answer.status_code == 202
            assert first.json()["completion"]["status"] == second.json()["message"]["status"] == "accepted"
            assert document.json()["status"] == "accepted"
            read = await client.get(f"/api/v1/sessions/{session_id}")
            assert (read.status_code, read.json()["code"]) == (503, "database_unavailable")
            assert read.headers["retry-after"] == "1"
            unknown = await client.get("/api/v1/sessions", headers=person().headers)
            assert unknown.status_code == 503
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "PostgreSQL does not answer")
            writes = await client.get("/health/ready", params={"writes_only": "true"})
            assert (writes.status_code, writes.json()["status"]) == (200, "ready")

        async def applied() -> bool:
            items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json().get("items", [])
            if [item["content"] for item in items] != ["one", "", "two", ""]:
                return False
            assert items[0]["id"] == first.json()["message"]["id"]
            return (await client.get(f"/api/v1/documents/{document.json()['id']}")).status_code == 200

        await eventually(applied, within_s=30)


async def test_a_stream_in_flight_goes_on_without_postgresql(
    edge: RunningEdge, somebody: Person, servers: EmbeddedServers, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        with frozen(servers, "postgres"):
            async with reading(client, writer.id) as one, reading(client, writer.id) as other:
                await writer.open()
                await writer.write("still ")
                await writer.write("here")
                await writer.finish()
                for stream in (one, other):
                    assert shown([event async for event in stream]) == "still here"
            async with reading(client, writer.id) as late:
                assert shown([event async for event in late]) == "still here"


async def test_a_late_reader_without_postgresql_is_served_from_the_log_alone(
    servers: EmbeddedServers, somebody: Person, producer: LogProducer, database: Database, tmp_path: Path
) -> None:
    """The ring is too small for the stream; the completion's request was seen, so that it begins with nothing."""
    limits = EdgeLimits(ring_bytes=12 * 2_000, read_timeout_s=0.5)
    async with (
        running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path), limits) as small,
        small.client(somebody) as client,
    ):
        writer = await asked(client, producer, somebody)
        await writer.open()
        for i in range(5):
            await writer.write(f"{i} ")
        hub = small.edge._running.hub.tail
        await hub.until(await hub.end_offsets())
        with frozen(servers, "postgres"):
            async with reading(client, writer.id) as stream:
                await writer.write("end")
                await writer.finish()
                assert shown([event async for event in stream]) == "0 1 2 3 4 end"


async def test_a_post_that_streams_waits_for_postgresql(
    edge: RunningEdge, somebody: Person, servers: EmbeddedServers, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        url, headers = f"/api/v1/sessions/{session_id}/messages", {"accept": "text/event-stream", "prefer": "wait=1"}
        servers.freeze("postgres")
        try:
            async with client.stream("POST", url, json={"content": "q"}, headers=headers) as response:
                stream = events_of(response)
                first = await anext(stream)
                assert (first.name, first.data["status"]) == ("started", "accepted")
                servers.thaw("postgres")
                again = await anext(stream)
                assert (again.name, again.data["status"]) == ("started", "pending")
                writer = Writer(producer, somebody, UUID(first.data["id"]), UUID(first.data["message_id"]))
                await writer.open()
                await writer.write("late")
                await writer.finish()
                assert shown([event async for event in stream]) == "late"
        finally:
            servers.thaw("postgres")


async def test_without_kafka_a_post_is_a_503_in_time_and_its_repetition_joins(
    edge: RunningEdge, somebody: Person, servers: EmbeddedServers
) -> None:
    async with edge.client(somebody) as client:
        session_id, key = await new_session(client), {"idempotency-key": "outage"}
        with frozen(servers, "kafka"):
            began = time.monotonic()
            refused = await post(client, session_id, "q", headers=key)
            assert (refused.status_code, refused.json()["code"]) == (503, "log_unavailable")
            assert refused.headers["retry-after"] == "1"
            assert time.monotonic() - began < 3
            assert (await client.get(f"/api/v1/sessions/{session_id}")).status_code == 200

            async def unready() -> bool:
                return (await client.get("/health/ready")).status_code == 503

            await eventually(unready)

        async def joined() -> bool:
            return (await post(client, session_id, "q", headers=key)).status_code == 202

        await eventually(joined, within_s=30)
        assert len((await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]) == 2


async def test_an_edge_whose_producer_died_for_good_answers_503_and_ends(
    servers: EmbeddedServers, somebody: Person, database: Database, tmp_path: Path
) -> None:
    own = LogProducer(servers.kafka_bootstrap, client_id="test-dying")
    await own.start()
    async with (
        running_edge(servers.kafka_bootstrap, database, own, LocalBlobStore(tmp_path)) as dying,
        dying.client(somebody) as client,
    ):
        session_id = await new_session(client)
        assert own._producer is not None
        for partition in range(CHAT_COMMANDS.partitions):
            own._producer._txn_manager.increment_sequence_number((CHAT_COMMANDS.name, partition), 7)
        for _ in range(2):
            refused = await post(client, session_id, "q")
            assert (refused.status_code, refused.json()["code"]) == (503, "log_unavailable")
        assert [type(error) for error in dying.fatal[:1]] == [Stop]
    await own.stop()
