"""Embedded servers in a temporary home; they end with the benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from ragline.dev_stack.embedded import EmbeddedServers
from storage.log.topic_admin import apply_topics
from storage.postgres import migrate


class Servers:
    """Kafka with every topic, and PostgreSQL."""

    def __init__(self, embedded: EmbeddedServers) -> None:
        self._embedded = embedded
        self.kafka_bootstrap = embedded.kafka_bootstrap
        self.postgres_dsn = embedded.postgres_dsn

    def pid(self, role: str) -> int:
        """The JVM's or the postmaster's process id."""
        return self._embedded.pid("kafka" if role == "kafka" else "postgres")

    async def fresh_database(self, name: str) -> str:
        """The DSN of a new, migrated database."""
        stem = self.postgres_dsn.rpartition("/")[0]
        admin = await asyncpg.connect(f"{stem}/postgres")
        try:
            await admin.execute(f'CREATE DATABASE "{name}"')
        finally:
            await admin.close()
        await migrate.upgrade(f"{stem}/{name}")
        return f"{stem}/{name}"


@asynccontextmanager
async def embedded_servers() -> AsyncIterator[Servers]:
    """Both answer and the topics stand for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="ragline-bench-", ignore_cleanup_errors=True) as folder:
        async with EmbeddedServers(Path(folder) / "home") as embedded:
            await apply_topics(embedded.kafka_bootstrap)
            yield Servers(embedded)
