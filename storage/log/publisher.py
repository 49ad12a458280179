"""Publishes outbox records right after their commit and marks them, in the background (design §10)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from schemas.errors import Retry
from storage.log.producer import Ack, LogProducer, all_acked
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)


class OutboxPublisher:
    """Hands committed records to the broker in order; acks and marks are awaited behind the caller's back.

    What is not acked or not marked stays in the outbox: the relay publishes it again, under the same id.
    """

    def __init__(self, database: Database, producer: LogProducer, *, max_unmarked: int = 20_000) -> None:
        self._database = database
        self._producer = producer
        self._max_unmarked = max_unmarked
        self._pending: list[tuple[UUID, asyncio.Future[Ack]]] = []
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to mark."""
        self._task = asyncio.create_task(self._mark_forever(), name="outbox marks")

    async def stop(self) -> None:
        """Marks what is acked, then ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            try:
                async with asyncio.timeout(3):
                    await self._mark(self._pending)
            except (Retry, TimeoutError) as error:
                logger.info("left to the relay: %s", error)

    async def publish(self, records: Sequence[OutboxRecord]) -> None:
        """Hands the records over in order; returns before their acks, unless too many are outstanding."""
        try:
            for record in records:
                future = await self._producer.send_raw(record.topic, record.key.encode(), record.value, record.headers)
                self._pending.append((record.id, future))
        except Retry as error:
            logger.warning("left to the relay: %s", error)
        self._wanted.set()
        if len(self._pending) > self._max_unmarked:
            await asyncio.wait([self._pending[-1][1]])

    async def _mark_forever(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._pending = self._pending, []
            try:
                await self._mark(batch)
            except Retry as error:
                logger.warning("left to the relay: %s", error)

    async def _mark(self, batch: Sequence[tuple[UUID, asyncio.Future[Ack]]]) -> None:
        if batch:
            await all_acked([future for _, future in batch])
            async with self._database.transaction() as work:
                await outbox.mark_published(work, [id_ for id_, _ in batch])
