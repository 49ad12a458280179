"""An edge over the shared servers, and the real transcript and documents consumers beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers.documents.subscriber import documents
from consumers.message_search.subscriber import message_search
from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from producers.edge.app import EdgeLimits
from ragline.dev_stack.embedded import EmbeddedServers
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import Person, RunningEdge, person, running_edge, tell_key


@pytest.fixture
async def somebody(producer: LogProducer) -> Person:
    """A user whose key the log knows."""
    who = person()
    await tell_key(producer, who)
    return who


@pytest.fixture
async def strangers(somebody: Person, producer: LogProducer) -> tuple[Person, ...]:
    """Another user of the same tenant, an admin of it, and somebody of another tenant."""
    others = person(somebody.tenant_id), person(somebody.tenant_id, role="admin"), person()
    for other in others:
        await tell_key(producer, other)
    return others


@pytest.fixture
def waiting() -> TenantLimit:
    """How many answers, and how many documents, of a tenant may wait; a module may have its own."""
    return TenantLimit(1000)


@pytest.fixture
async def consumers(
    servers: EmbeddedServers, database: Database, producer: LogProducer, waiting: TenantLimit
) -> AsyncIterator[None]:
    """The transcript, the documents and message search, on this test's database."""
    failures: list[BaseException] = []
    publisher = OutboxPublisher(database, producer)
    publisher.start()
    subscribers = Subscribers(
        servers.kafka_bootstrap, slot_name="test-0", database=database, producer=producer, publisher=publisher
    )
    subscribers.consume(transcript(waiting), failures.append)
    subscribers.consume(documents(waiting), failures.append)
    subscribers.consume(message_search(), failures.append)
    await subscribers.start()
    yield
    await subscribers.stop()
    await publisher.stop()
    assert not failures


@pytest.fixture
async def edge(
    servers: EmbeddedServers, database: Database, producer: LogProducer, somebody: Person, tmp_path: Path
) -> AsyncIterator[RunningEdge]:
    """A running edge that knows `somebody`."""
    blobs = LocalBlobStore(tmp_path / "blobs")
    limits = EdgeLimits(max_upload_bytes=1_000_000, heartbeat_s=0.5)
    async with running_edge(servers.kafka_bootstrap, database, producer, blobs, limits) as running:
        yield running
        assert not running.fatal
