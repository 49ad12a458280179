"""What a worker and a relay ask themselves: whether PostgreSQL and Kafka answer, whether every group polls."""

from __future__ import annotations

import time

from ragline.status import ANSWER_WITHIN_S, OK, Status
from schemas.errors import Retry
from storage.log.producer import LogProducer
from storage.log.subscribers import Subscribers
from storage.postgres.unit_of_work import Database

POLLS_WITHIN_S = 60.0
"""A poll follows within a quarter of a second, but for a batch at work and for rebalances."""


def watch_servers(status: Status, database: Database, producer: LogProducer) -> None:
    """`postgres` and `kafka` are among the checks."""

    async def postgres() -> str:
        try:
            async with database.transaction(timeout_s=ANSWER_WITHIN_S) as work:
                await work.fetchval("SELECT 1")
        except Retry:
            return "does not answer"
        return OK

    async def kafka() -> str:
        if producer.is_dead:
            return "the producer is dead"
        return OK if await producer.answers(timeout_s=ANSWER_WITHIN_S) else "does not answer"

    status.add("postgres", postgres)
    status.add("kafka", kafka)


def watch_consumers(status: Status, subscribers: Subscribers) -> None:
    """`consumers` is among the checks."""

    async def consumers() -> str:
        now = time.monotonic()
        still = [group for group, runner in subscribers.runners.items() if now - runner.polled_s > POLLS_WITHIN_S]
        return f"{', '.join(sorted(still))}: no poll for {POLLS_WITHIN_S:g} s" if still else OK

    status.add("consumers", consumers)
