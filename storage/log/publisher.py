"""Publishes outbox records right after their commit and marks them, in the background (design §10)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from schemas.errors import Retry, Stop
from storage.log.producer import Ack, LogProducer, all_acked
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

SENT_AT_ONCE = 50
"""Records handed over before others get the loop: their transactions go on meanwhile."""

MARK_EVERY_S = 0.1
"""Marks are collected: one transaction for many. The relay looks at what is older than 2 s."""


class OutboxPublisher:
    """Hands committed records to the broker in order; sends, acks and marks happen behind the caller's back.

    What is not acked or not marked stays in the outbox: the relay publishes it again, under the same id.
    """

    def __init__(self, database: Database, producer: LogProducer, *, max_unmarked: int = 20_000) -> None:
        self._database = database
        self._producer = producer
        self._max_unmarked = max_unmarked
        self._unsent: deque[OutboxRecord] = deque()
        self._pending: list[tuple[UUID, asyncio.Future[Ack]]] = []
        self._send_wanted, self._mark_wanted, self._marked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to send and to mark."""
        loops = (("sends", self._send_forever()), ("marks", self._mark_forever()))
        self._tasks = [asyncio.create_task(loop, name=f"outbox {name}") for name, loop in loops]

    async def stop(self) -> None:
        """Sends what it was given, marks what is acked, then ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(3):
                await self._send()
                await self._mark(self._pending)
        except (Retry, Stop, TimeoutError) as error:
            logger.info("left to the relay: %s", error)

    async def publish(self, records: Sequence[OutboxRecord]) -> None:
        """Takes the records, in order; returns at once, unless too many are outstanding."""
        self._unsent.extend(records)
        self._send_wanted.set()
        while len(self._unsent) + len(self._pending) > self._max_unmarked:
            self._marked.clear()
            await self._marked.wait()

    async def _send_forever(self) -> None:
        while True:
            await self._send_wanted.wait()
            self._send_wanted.clear()
            try:
                await self._send()
            except (Retry, Stop) as error:  # a dead producer ends the process: whoever watches it says so
                logger.warning("left to the relay: %s", error)
                self._unsent.clear()

    async def _send(self) -> None:
        while self._unsent:
            for record in list(islice(self._unsent, SENT_AT_ONCE)):
                future = await self._producer.send_raw(record.topic, record.key.encode(), record.value, record.headers)
                self._pending.append((record.id, future))
                self._unsent.popleft()
            self._mark_wanted.set()
            await asyncio.sleep(0)

    async def _mark_forever(self) -> None:
        while True:
            await self._mark_wanted.wait()
            await asyncio.sleep(MARK_EVERY_S)
            self._mark_wanted.clear()
            batch, self._pending = self._pending, []
            try:
                await self._mark(batch)
            except asyncio.CancelledError:
                self._pending = [*batch, *self._pending]
                raise
            except Retry as error:
                logger.warning("left to the relay: %s", error)
            self._marked.set()

    async def _mark(self, batch: Sequence[tuple[UUID, asyncio.Future[Ack]]]) -> None:
        if batch:
            await all_acked([future for _, future in batch])
            async with self._database.transaction() as work:
                await outbox.mark_published(work, [id_ for id_, _ in batch])
