"""The relay: publishes what a worker committed but died before publishing. One is active (design §2)."""

from __future__ import annotations

import asyncio
import logging

from schemas.errors import Retry
from storage.log.producer import LogProducer
from storage.postgres import outbox
from storage.postgres.leases import single_active
from storage.postgres.unit_of_work import AWAY, Database
from telemetry.metrics import KAFKA_RELAYED

logger = logging.getLogger(__name__)

OLDER_THAN_S = 2.0
BATCH = 500


async def sweep_once(database: Database, producer: LogProducer, *, older_than_s: float = OLDER_THAN_S) -> int:
    """Publishes up to one batch of forgotten records, oldest first, then marks them; how many. Raises: Retry, Stop.

    A crash between publish and mark publishes them again, under the same ids.
    """
    async with database.transaction() as work:
        records = await outbox.unpublished(work, older_than_s=older_than_s, limit=BATCH)
    if not records:
        return 0
    await producer.publish_records(records)
    KAFKA_RELAYED.inc(len(records))
    async with database.transaction() as work:
        await outbox.mark_published(work, [record.id for record in records])
    return len(records)


async def relay_forever(database: Database, producer: LogProducer, *, interval_s: float = 1.0) -> None:
    """Sweeps while this process is the active relay; waits for its turn otherwise. Raises: Stop."""
    while True:
        try:
            async with single_active(database, "relay") as connection:
                while not connection.is_closed():
                    n_published = await sweep_once(database, producer)
                    if n_published:
                        logger.info("relayed %d records", n_published)
                    if n_published < BATCH:
                        await connection.fetchval("SELECT 1", timeout=5)
                        await asyncio.sleep(interval_s)
        except (Retry, *AWAY) as away:
            logger.warning("relay: %s", away)
            await asyncio.sleep(interval_s)
