"""Completion streams: any reader, any edge, any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from producers.edge import stream_hub
from producers.edge.app import EdgeLimits
from producers.edge.partitions import partition_of
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.chunks import AttemptOpened
from schemas.topics import CHAT_CHUNKS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_messages import end_in_postgres, new_session, post
from tests.integration.edge.world import (
    Person,
    RunningEdge,
    Sent,
    Writer,
    events_of,
    eventually,
    person,
    running_edge,
    shown,
    tell_key,
)

pytestmark = pytest.mark.usefixtures("consumers")


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, completion_id: UUID, last_id: str | None = None
) -> AsyncIterator[AsyncIterator[Sent]]:
    headers = {"last-event-id": last_id} if last_id is not None else {}
    async with client.stream("GET", f"/api/v1/completions/{completion_id}/stream", headers=headers) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        yield events_of(response)


async def all_of(client: httpx.AsyncClient, completion_id: UUID, last_id: str | None = None) -> list[Sent]:
    async with reading(client, completion_id, last_id) as stream:
        return [event async for event in stream]


async def are_read(client: httpx.AsyncClient, n: int) -> None:
    """Returns when the edge has so many open streams."""
    async with asyncio.timeout(10):
        while (await client.get("/health")).json()["n_streams"] < n:
            await asyncio.sleep(0.01)


async def asked(client: httpx.AsyncClient, producer: LogProducer, who: Person) -> Writer:
    completion = (await post(client, await new_session(client), "q")).json()["completion"]
    return Writer(producer, who, UUID(completion["id"]), UUID(completion["message_id"]))


async def checkpoint(database: Database, writer: Writer, offset: int | None) -> None:
    async with database.transaction() as work:
        await work.execute(
            "UPDATE completions SET status = 'in_progress', attempt = $2, checkpoint_attempt = $2,"
            " checkpoint_epoch = $3, checkpoint_end = $4, checkpoint_seq = $5, chunk_ends = $6,"
            " checkpoint_text = $7, checkpoint_offset = $8"
            " WHERE id = $1",
            writer.id,
            writer.attempt,
            writer.epoch,
            writer.end,
            writer.seq,
            [writer.end] * writer.seq,
            writer.text,
            offset,
        )


async def forget_before(servers: EmbeddedServers, completion_id: UUID, offset: int) -> None:
    """As retention does, sooner or later."""
    partition = TopicPartition(CHAT_CHUNKS.name, partition_of(CHAT_CHUNKS, str(completion_id).encode()))
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})
    await admin.close()


async def test_many_readers_resume_at_any_code_point(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        early = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        await writer.write("Füchse 🦊🦊 sind")
        async with reading(client, writer.id) as stream:
            first = [await anext(stream), await anext(stream)]
        assert shown(first) == "Füchse 🦊🦊 sind"
        cut = first[-1].id.replace("0000000014", "0000000008") if first[-1].id else ""
        late = asyncio.create_task(all_of(client, writer.id, cut))
        await writer.write(" schlau\n und rot.")
        await writer.finish()
        whole = shown(await early)
        assert whole == "Füchse 🦊🦊 sind schlau\n und rot."
        resumed = await late
        assert "".join(event.data["text"] for event in resumed if event.name == "delta") == whole[8:]
        await end_in_postgres(database, str(writer.id), "complete", whole)
        after = await all_of(client, writer.id, first[-1].id)
        assert [event.name for event in after][-1] == "completed"
        assert "".join(event.data["text"] for event in after if event.name == "delta") == whole[14:]
        ids = [event.id for event in await early if event.id]
        assert ids == sorted(set(ids))


async def test_a_restart_resets_whoever_holds_the_old_text(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        live = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        await writer.write("old")
        async with reading(client, writer.id) as stream:
            old = [await anext(stream), await anext(stream)][-1]
        await writer.open()
        await writer.write("", restart=True)
        await writer.write("new")
        fresh, resumed = (asyncio.create_task(all_of(client, writer.id, last)) for last in (None, old.id))
        await are_read(client, 3)
        await writer.finish("cancelled")
        assert [event.name for event in await live] == ["started", "delta", "reset", "delta", "cancelled"]
        assert [event.name for event in await resumed] == ["started", "reset", "delta", "cancelled"]
        assert [event.name for event in await fresh] == ["started", "delta", "cancelled"]
        assert {shown(events) for events in (await live, await resumed, await fresh)} == {"new"}


async def test_a_fresh_edge_goes_on_from_checkpoint_and_log(
    edge: RunningEdge,
    servers: EmbeddedServers,
    somebody: Person,
    producer: LogProducer,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ring begins late and is tiny, so that what lies between base and ring must be read by offset."""
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        for i in range(3):
            offset = await writer.write(f"{i} ")
        await checkpoint(database, writer, offset + 1)
        for i in range(3, 6):
            await writer.write(f"{i} ")
        monkeypatch.setattr(stream_hub, "LOOKBACK_S", 0.0)
        limits = EdgeLimits(ring_bytes=12 * 2_000)
        blobs = LocalBlobStore(tmp_path / "other")
        async with (
            running_edge(servers.kafka_bootstrap, database, producer, blobs, limits) as other,
            other.client(somebody) as there,
        ):
            reader = asyncio.create_task(all_of(there, writer.id))
            await are_read(there, 1)
            for i in range(6, 9):
                await writer.write(f"{i} ")
            late = asyncio.create_task(all_of(there, writer.id))
            await are_read(there, 2)
            await writer.finish()
            assert shown(await reader) == shown(await late) == "0 1 2 3 4 5 6 7 8 "


async def test_a_reader_that_comes_after_retention_goes_on_with_what_the_next_attempt_opens(
    edge: RunningEdge,
    servers: EmbeddedServers,
    somebody: Person,
    producer: LogProducer,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lies between checkpoint and log is gone; the taker reopens in an epoch of its own (decision 0004)."""
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        await checkpoint(database, writer, await writer.write("kept ") + 1)
        lost = await writer.write("lost ")
        await writer.write("cannot follow ")
        await forget_before(servers, writer.id, lost + 1)
        monkeypatch.setattr(stream_hub, "LOOKBACK_S", 0.0)
        async with (
            running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path / "other")) as other,
            other.client(somebody) as there,
            reading(there, writer.id) as stream,
        ):
            assert shown([await anext(stream), await anext(stream)]) == "kept "
            await writer.open()
            await writer.write("kept ", restart=True)
            await writer.write("and new")
            await writer.finish()
            rest = [event async for event in stream]
            assert [event.name for event in rest] == ["reset", "delta", "delta", "completed"]
            assert shown(rest) == "kept and new"


async def test_what_an_attempt_writes_after_its_lost_fence_is_shown_to_nobody(
    edge: RunningEdge,
    servers: EmbeddedServers,
    somebody: Person,
    producer: LogProducer,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        await checkpoint(database, writer, await writer.write("kept ") + 1)
        fence = await writer.put(AttemptOpened(completion_id=writer.id, attempt=2))
        async with database.transaction() as work:
            await work.execute("UPDATE completions SET attempt = 2 WHERE id = $1", writer.id)
        await writer.write("of a zombie")
        await forget_before(servers, writer.id, fence + 1)
        monkeypatch.setattr(stream_hub, "LOOKBACK_S", 0.0)
        async with (
            running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path / "other")) as other,
            other.client(somebody) as there,
            reading(there, writer.id) as stream,
        ):
            assert shown([await anext(stream), await anext(stream)]) == "kept "
            writer.attempt, writer.seq = 2, 1
            await writer.write("kept by two", restart=True)
            await writer.finish()
            assert shown([event async for event in stream]) == "kept by two"


async def test_readers_of_a_deleted_session_are_told_cancelled_where_they_are(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        completion = (await post(client, session_id, "q")).json()["completion"]
        writer = Writer(producer, somebody, UUID(completion["id"]), UUID(completion["message_id"]))
        async with reading(client, writer.id) as stream:
            await writer.open()
            await writer.write("half")
            assert shown([await anext(stream), await anext(stream)]) == "half"
            assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
            (end,) = [event async for event in stream]
        assert (end.name, end.id) == ("cancelled", "000000.0000000004.2")


async def test_an_end_that_the_log_tells_short_is_read_from_postgresql(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        live = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        await writer.write("half ")
        writer.end, writer.text = 10, "half whole"
        await end_in_postgres(database, str(writer.id), "complete", "half whole")
        await writer.finish()
        events = await live
        assert (shown(events), events[-1].name) == ("half whole", "completed")


async def test_a_gap_in_the_log_is_mended_from_the_checkpoint(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        live = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        await writer.write("one ")
        writer.seq, writer.end, writer.text = 2, 8, "one two "
        offset = await writer.put_nothing()
        await checkpoint(database, writer, offset + 1)
        await writer.write("three")
        await writer.finish()
        assert shown(await live) == "one two three"


async def test_ids_that_no_stream_has_given_are_refused(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        await writer.write("abc")
        for last_id in ("garbage", "000000.0000000004.1", "000001.0000000000.0"):
            url = f"/api/v1/completions/{writer.id}/stream"
            refused = await client.get(url, headers={"last-event-id": last_id})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_last_event_id")


async def test_a_reader_ahead_of_its_edge_waits(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    """It resumes behind a record that was acknowledged this very moment."""
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        for i in range(20):
            await writer.write("x")
            async with reading(client, writer.id, f"000000.{i + 1:010d}.1") as stream:
                assert (await anext(stream)).name == "started"


async def test_what_is_unknown_or_foreign_is_the_same_404(
    edge: RunningEdge, somebody: Person, producer: LogProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_hub, "KNOWN_WITHIN_S", 0.3)
    stranger, colleague = person(), person(somebody.tenant_id)
    await tell_key(producer, stranger)
    await tell_key(producer, colleague)
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        async with reading(client, writer.id) as stream:
            await anext(stream)
            answers = [
                await client.get(f"/api/v1/completions/{writer.id}/stream", headers=stranger.headers),
                await client.get(f"/api/v1/completions/{writer.id}/stream", headers=colleague.headers),
                await client.get(f"/api/v1/completions/{uuid4()}/stream"),
                await client.get("/api/v1/completions/x/stream"),
                await client.get(f"/api/v1/completions/{writer.id}", headers=stranger.headers),
            ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "completion_not_found")}


async def test_a_completion_that_is_not_known_yet_is_awaited(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        sent = await post(client, session_id, "q", headers={"prefer": "respond-async"})
        completion = sent.json()["completion"]
        assert completion["status"] == "accepted"
        writer = Writer(producer, somebody, UUID(completion["id"]), UUID(completion["message_id"]))
        async with reading(client, writer.id) as stream:
            assert (await anext(stream)).data["status"] == "pending"


async def test_deleting_a_session_ends_its_streams(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        completion = (await post(client, session_id, "q")).json()["completion"]
        live = asyncio.create_task(all_of(client, UUID(completion["id"])))
        await are_read(client, 1)
        assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
        assert [event.name for event in await live] == ["started", "cancelled"]
        gone = await client.get(f"/api/v1/completions/{completion['id']}")
        assert gone.status_code == 404


async def test_a_stopping_edge_tells_its_readers(
    servers: EmbeddedServers, somebody: Person, producer: LogProducer, database: Database, tmp_path: Path
) -> None:
    blobs = LocalBlobStore(tmp_path)
    async with running_edge(servers.kafka_bootstrap, database, producer, blobs) as other:
        async with other.client(somebody) as client:
            writer = await asked(client, producer, somebody)
            async with reading(client, writer.id) as stream:
                await anext(stream)
                other.edge.stop_streams()
                rest = [event async for event in stream]
        assert [(event.name, event.data["code"]) for event in rest] == [("error", "edge_stopping")]


async def test_nobody_reading_means_nothing_kept(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        hub = edge.edge._running.hub
        async with reading(client, writer.id) as stream:
            await anext(stream)
            assert hub.n_channels == 1

        async def nothing_kept() -> bool:
            return hub.n_channels == 0

        await eventually(nothing_kept)
