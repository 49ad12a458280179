"""The desk at which an operator sees to dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from producers.replay.dead_letters import DeadLetterDesk
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database


@asynccontextmanager
async def dead_letter_desk(bootstrap: str, dsn: str, *, publishes: bool) -> AsyncIterator[DeadLetterDesk]:
    """Open for as long as the block runs; it redrives only if it `publishes`. Raises: Retry without Kafka."""
    async with AsyncExitStack() as stack:
        database = Database(dsn, max_connections=2)
        stack.push_async_callback(database.close)
        producer = None
        if publishes:
            producer = LogProducer(bootstrap, client_id="ragline-dlq")
            stack.push_async_callback(producer.stop)
            await producer.start()
        yield DeadLetterDesk(bootstrap, database, producer)
