"""PostgreSQL or Kafka dies under the work, or a disk is full: it waits, and goes on where it was."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from uuid import UUID

import pytest

from consumers.lease_trust import LeaseTrust
from ragline.dev_stack.embedded import EmbeddedServers, ServerRole
from schemas.events import DocumentIndexed, PassagesEmbedded
from storage.log.topic_admin import apply_topics
from storage.postgres import migrate
from tests.full_disk import full_disk
from tests.integration.documents.room import HashEmbedder, Room, open_room

DATA = "\n".join(f"line {n}" for n in range(300)).encode()


@pytest.mark.parametrize("role", ["postgres", "kafka"])
async def test_a_document_survives_the_death_of_a_server(role: ServerRole, tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path / "home") as servers:
        await migrate.upgrade(servers.postgres_dsn)
        await apply_topics(servers.kafka_bootstrap)
        embedder = HashEmbedder(delay_s=0.05)
        async with (
            open_room(servers.postgres_dsn, servers.kafka_bootstrap, tmp_path) as room,
            room.consuming(),
            room.learning(embedder),
        ):
            document_id = await room.upload(DATA)
            await room.heard.more(document_id, PassagesEmbedded, 3)
            await servers.kill(role)
            await servers.restart(role)
            end = await room.heard.end(document_id, timeout_s=90)
            assert isinstance(end, DocumentIndexed)
            assert (await room.version(document_id))["n_embedded"] == 300
    assert sum(embedder.counts.values()) == 300, "what is embedded waits to be stored"


async def test_an_outage_longer_than_a_lease_takes_no_document_from_who_lives(tmp_path: Path) -> None:
    """Its holder could not renew; another worker that is back sooner waits for a lease more."""
    async with EmbeddedServers(tmp_path / "home") as servers:
        await migrate.upgrade(servers.postgres_dsn)
        await apply_topics(servers.kafka_bootstrap)
        embedder, others = HashEmbedder(), HashEmbedder()
        embedder.stop_after = 1
        async with (
            open_room(servers.postgres_dsn, servers.kafka_bootstrap, tmp_path) as room,
            room.consuming(),
            room.learning(embedder, name="holder") as holder,
        ):
            document_id = await room.upload(DATA)
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
            async with room.learning(others, name="other", sweep_s=0.02) as other:
                other._trust = LeaseTrust(away_s=0.75, lease_s=30, now_s=time.monotonic())
                await servers.kill("postgres")
                [renewal] = [loop for loop in holder._loops if loop.get_name() == "documents leases"]
                renewal.cancel()
                await asyncio.sleep(1.2)  # the lease is of 1 s
                await servers.restart("postgres")
                for _ in range(2):  # it looks for work, and has found none
                    asked = other._trust._answered_s
                    async with asyncio.timeout(20):
                        while other._trust._answered_s == asked:
                            await asyncio.sleep(0.01)
                holder._loops.append(asyncio.create_task(holder._repeat(holder._renew, None, 0.25)))
                embedder.gate.set()
                assert isinstance(await room.heard.end(document_id, timeout_s=60), DocumentIndexed)
            assert (await room.version(document_id))["attempt"] == 1
    assert (sum(embedder.counts.values()), sum(others.counts.values())) == (300, 0)


async def given_back(room: Room, document_id: UUID) -> None:
    """Returns when an attempt has ended that is to be repeated."""
    async with asyncio.timeout(30):
        while (await room.version(document_id))["not_before"] is None:
            await asyncio.sleep(0.02)


async def test_a_disk_that_is_full_is_waited_for_and_said(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Its text fits, its vectors do not."""
    lines = "\n".join(f"line {n}" for n in range(1000)).encode()
    async with room.consuming(), room.learning(HashEmbedder(), batch_size=1000):
        document_id = await room.upload(b"small")
        await room.heard.end(document_id)
        with full_disk(32 * 1024):
            document_id = await room.upload(lines)
            await given_back(room, document_id)
            assert f"document {document_id} waits 5 s: the disk of the blob store is full" in caplog.text
            assert sorted(await room.keys(document_id)) == ["v1/original", "v1/text.txt"]
            assert not list((room.folder / "blobs" / "~incoming").iterdir()), "nothing half stored"
        async with room.database.transaction() as work:
            await work.execute("UPDATE document_versions SET not_before = NULL WHERE document_id = $1", document_id)
        assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        version = await room.version(document_id)
    assert (version["attempt"], version["barren_attempts"]) == (2, 0), "it does not count against the file"


async def test_a_temporary_folder_that_is_full_is_no_fault_of_the_file(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    async with room.consuming(with_index=False):
        document_id = await room.upload(DATA * 20)
        with full_disk(1024):
            async with room.learning(HashEmbedder()):
                await given_back(room, document_id)
        assert f"document {document_id} waits 5 s: the temporary folder" in caplog.text
        assert (await room.version(document_id))["barren_attempts"] == 0
