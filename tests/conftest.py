"""Fixtures that every room shares: the embedded real servers, once a test run, and a fresh database each test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from ragline.dev_stack.embedded import EmbeddedServers
from storage.log.producer import LogProducer
from storage.log.topic_admin import apply_topics
from storage.postgres import migrate
from storage.postgres.unit_of_work import Database
from tests.databases import drop_database
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, start_s3_server
from tests.stack import dev_stack

__all__ = ["dev_stack"]

# A busy machine is no reason to fail: what must be fast says so itself.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Real Kafka and PostgreSQL, shared by all tests: use ids and databases of your own."""
    embedded = EmbeddedServers(tmp_path_factory.mktemp("servers"))
    asyncio.run(embedded.start())
    asyncio.run(apply_topics(embedded.kafka_bootstrap))
    yield embedded
    asyncio.run(embedded.stop())


@pytest.fixture(scope="session")
def migrated_template(servers: EmbeddedServers) -> str:
    """The name of a migrated database that others are copied from."""
    asyncio.run(migrate.upgrade(servers.postgres_dsn))
    return servers.postgres_dsn.rpartition("/")[2]


@pytest.fixture
async def dsn(servers: EmbeddedServers, migrated_template: str) -> AsyncIterator[str]:
    """A fresh, migrated database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    stem = servers.postgres_dsn.rpartition("/")[0]
    admin = await asyncpg.connect(f"{stem}/postgres")
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"')
        yield f"{stem}/{name}"
        await drop_database(admin, name)
    finally:
        await admin.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on the test's own database."""
    opened = Database(dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def producer(servers: EmbeddedServers) -> AsyncIterator[LogProducer]:
    """A connected producer."""
    started = LogProducer(servers.kafka_bootstrap, client_id="test")
    await started.start()
    yield started
    await started.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, shared by all tests: use prefixes of your own."""
    started = asyncio.run(start_s3_server(tmp_path_factory.mktemp("s3")))
    yield started
    asyncio.run(started.stop())


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with its credentials where boto3 and LanceDB look for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return s3_server


@dataclass(frozen=True)
class Samples:
    """The real sample documents beside the project."""

    folder: Path

    def path(self, name: str) -> Path:
        """A sample's path; skips the test where the samples are not beside the project."""
        if not self.folder.is_dir():
            pytest.skip("the sample documents (../shared/samples) are not beside the project")
        return self.folder / name


@pytest.fixture(scope="session")
def samples() -> Samples:
    """Real documents, read from where they are."""
    return Samples(Path(__file__).resolve().parents[2] / "shared" / "samples")
