"""What waits: how far the groups are behind, what stands in the queues. The relay counts, for it needs no worker."""

from __future__ import annotations

import asyncio
import logging
import time

from consumers.relay.inspection import INSPECTED, inspector
from schemas.errors import Retry
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS, KNOWLEDGE_COMMANDS, KNOWLEDGE_INDEX, Topic
from storage.log.lag import LagReader
from storage.postgres.unit_of_work import Database
from telemetry.metrics import INGEST_WAITING, KAFKA_CONSUMER_LAG, KAFKA_OLDEST_UNPROCESSED_SECONDS, LLM_WAITING

logger = logging.getLogger(__name__)

EVERY_S = 5.0
GROUPS: tuple[tuple[str, Topic], ...] = (
    ("transcript", CHAT_COMMANDS),
    ("message_search", CHAT_EVENTS),
    ("documents", KNOWLEDGE_COMMANDS),
    ("index", KNOWLEDGE_INDEX),
    *((inspector(topic), topic) for topic in INSPECTED),
)
"""Every group of every process."""

_IN_WORK = ("queued", "parsing", "embedding", "indexing")


async def watch_forever(database: Database, bootstrap: str, *, every_s: float = EVERY_S) -> None:
    """Counts every so often; what is away is asked again."""
    while True:
        reader = LagReader(bootstrap, client_id="ragline-lags")
        try:
            await reader.start()
            while True:
                await asyncio.gather(_count_lags(reader), _count_queues(database))
                await asyncio.sleep(every_s)
        except Retry as retry:
            logger.warning("lags: %s", retry)
            await asyncio.sleep(every_s)
        finally:
            await reader.stop()


async def _count_lags(reader: LagReader) -> None:
    for lag in await reader.read(GROUPS):
        age_s = 0.0 if lag.oldest_s is None else max(0.0, time.time() - lag.oldest_s)
        KAFKA_CONSUMER_LAG.labels(lag.group, lag.topic).set(lag.n_records)
        KAFKA_OLDEST_UNPROCESSED_SECONDS.labels(lag.group, lag.topic).set(age_s)


async def _count_queues(database: Database) -> None:
    try:
        async with database.transaction() as work:
            n_waiting = await work.fetchval("SELECT count(*) FROM completions WHERE status = 'pending'")
            rows = await work.fetch(
                "SELECT status, count(*) AS n FROM document_versions WHERE status = ANY($1) GROUP BY status",
                list(_IN_WORK),
            )
    except Retry as retry:
        logger.warning("queues: %s", retry)
        return
    LLM_WAITING.set(n_waiting)
    found = {row["status"]: row["n"] for row in rows}
    for status in _IN_WORK:
        INGEST_WAITING.labels(status).set(found.get(status, 0))
