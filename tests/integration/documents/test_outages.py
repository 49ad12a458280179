"""PostgreSQL or Kafka dies under the work: it waits, and goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragline.dev_stack.embedded import EmbeddedServers, ServerRole
from schemas.events import DocumentIndexed, PassagesEmbedded
from storage.log.topic_admin import apply_topics
from storage.postgres import migrate
from tests.integration.documents.room import HashEmbedder, open_room

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
    # What was embedded and could not be stored is embedded again, nothing else.
    assert sum(embedder.counts.values()) <= 300 + 2 * 20
