"""The batch runner: poll → one transaction → publish → commit offsets in the background (design §10).

What holds, whatever dies: a record's effect and its events commit together or not at all; an offset is
committed only after that; redelivery changes nothing (inbox); log order holds within a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from schemas.envelope import Envelope, decode
from schemas.errors import Busy, DeadLetter, Reject, Retry, Stop
from schemas.rejections import is_refused_for_now, rejection
from schemas.topics import Topic
from storage.log.dead_letters import DeadLetters
from storage.log.publisher import OutboxPublisher
from storage.postgres import inbox, outbox
from storage.postgres.outbox import OutboxRecord, Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from telemetry import tracing
from telemetry.metrics import KAFKA_BATCH_RETRIES, KAFKA_BATCH_SECONDS, KAFKA_RECORDS_CONSUMED

logger = logging.getLogger(__name__)

Handle = Callable[[UnitOfWork, Sequence[Envelope]], Awaitable[list[Outgoing]]]
"""What a consumer does with commands that take effect now, in log order, inside their one transaction.

Returns the events that follow. Raises: Retry to have the whole batch repeated later; anything else makes
the runner redo the batch by halves until the one record at fault is dead-lettered.
"""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 5.0
GATHER_S = 0.5
"""Between the polls of a subscription whose records may wait."""
COMMIT_EVERY_S = 0.5
"""Offsets are committed no more often: what is read again after a crash changes nothing (inbox)."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One group on one topic: what it does, and where rejections of its commands are told.

    Without a handler it only looks: what cannot be read is kept, the rest passes. `dead_share`: see `DeadLetters`.
    Where records `may_wait`, half a second goes by between polls that find few, so that more come at once.
    """

    topic: Topic
    group: str
    handle: Handle | None
    rejects_to: Topic
    dead_share: float = 0.5
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class _Received:
    record: ConsumerRecord
    envelope: Envelope


class BatchRunner(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs one subscription over a consumer that FastStream built and stops."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        database: Database,
        publisher: OutboxPublisher,
        dead_letters: DeadLetters,
        max_records: int = 500,
    ) -> None:
        self._subscription = subscription
        self._database = database
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._max_records = max_records
        self._working = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._done: dict[TopicPartition, int] = {}
        self._commit_wanted = asyncio.Event()
        self._failures: dict[TopicPartition, int] = {}
        self._paused_until: dict[TopicPartition, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._consumer: AIOKafkaConsumer | None = None
        self.n_processed = 0
        self.topic = subscription.topic
        self.polled_s = time.monotonic()
        group = subscription.group
        self._consumed = KAFKA_RECORDS_CONSUMED.labels(group, subscription.topic.name)
        self._seconds, self._retries = KAFKA_BATCH_SECONDS.labels(group), KAFKA_BATCH_RETRIES.labels(group)

    def start(self, consumer: AIOKafkaConsumer, on_fail: Callable[[BaseException], None]) -> None:
        """Begins to poll. `on_fail` hears of the error that ends the loop (Stop, or a bug)."""
        self._consumer = consumer

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                on_fail(error)

        loops = (("poll", self._poll(consumer)), ("offsets", self._commit_in_background(consumer)))
        for name, loop in loops:
            task = asyncio.create_task(loop, name=f"{self._subscription.group} {name}")
            task.add_done_callback(ended)
            self._tasks.append(task)

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Finishes the batch at hand, commits its offsets, polls no more."""
        self._stopping.set()
        if not self._tasks:
            return
        poll, offsets = self._tasks
        await asyncio.wait([poll], timeout=timeout_s)
        for task in (poll, offsets):
            task.cancel()
        await asyncio.gather(poll, offsets, return_exceptions=True)
        if self._consumer is not None:
            await self._commit(self._consumer, timeout_s=2.0)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drains: what is in work is finished and committed before the partitions are let go."""
        async with self._working:
            if self._consumer is not None:
                await self._commit(self._consumer, timeout_s=5.0)
            self._done.clear()
            self._paused_until.clear()
            self._failures.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Positions start from the committed offsets."""

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while not self._stopping.is_set():
            self._resume_due(consumer)
            polled = await consumer.getmany(timeout_ms=250, max_records=self._max_records)
            self.polled_s = time.monotonic()
            if not polled:
                continue
            async with self._working:
                # Never dropped, though a rebalance may have come meanwhile: a poll that began before it can return
                # records of the new assignment, and a second owner's work on the others changes nothing (inbox).
                await self._process(consumer, polled)
            if self._subscription.may_wait and sum(map(len, polled.values())) < self._max_records / 10:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._stopping.wait()

    async def _process(self, consumer: AIOKafkaConsumer, polled: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        began_s = time.perf_counter()
        try:
            received, malformed = self._decode(polled)
            if self._subscription.handle is not None:
                await self._take_effect(received)
            for record, error in malformed:
                logger.warning("dead letter at %s/%s: %s", record.partition, record.offset, error)
                await self._dead_letters.keep(record, error)
        except Busy as busy:
            if len(polled) == 1:
                self._back_off(consumer, polled, busy)
            else:
                for partition, records in polled.items():
                    await self._process(consumer, {partition: records})
            return
        except Retry as retry:
            self._back_off(consumer, polled, retry)
            return
        for partition, records in polled.items():
            self._done[partition] = records[-1].offset + 1
            self._failures.pop(partition, None)
        self.n_processed += len(received)
        self._consumed.inc(len(received) + len(malformed))
        self._seconds.observe(time.perf_counter() - began_s)
        self._commit_wanted.set()
        if malformed:  # no inbox knows what was kept: read again, it would be kept twice
            await self._commit(consumer, timeout_s=10.0)

    def _decode(
        self, polled: dict[TopicPartition, list[ConsumerRecord]]
    ) -> tuple[list[_Received], list[tuple[ConsumerRecord, DeadLetter]]]:
        received, malformed = [], []
        for records in polled.values():
            for record in records:
                if record.value is None and self._subscription.topic.cleanup == "compact":
                    continue
                try:
                    envelope = decode(self._subscription.topic, record.headers, record.value)
                    received.append(_Received(record, envelope))
                except DeadLetter as error:
                    malformed.append((record, error))
        return received, malformed

    async def _take_effect(self, received: list[_Received]) -> None:
        """One transaction for all; on a data error by halves, in log order, down to the record at fault."""
        if not received:
            return
        try:
            records = await self._transact([item.envelope for item in received])
        except (Retry, Stop):
            raise
        except Exception as error:  # noqa: BLE001 - the consumer's border: logged with its id, kept, counted
            if len(received) > 1:
                half = len(received) // 2
                await self._take_effect(received[:half])
                await self._take_effect(received[half:])
                return
            await self._bury(received[0], error)
            return
        self._dead_letters.passed(len(received))
        await self._publisher.publish(records)

    async def _transact(self, commands: Sequence[Envelope]) -> list[OutboxRecord]:
        subscription = self._subscription
        async with self._database.transaction() as work:
            admission = await inbox.admit(work, subscription.group, commands)
            now = await work.now()
            handle = subscription.handle
            fresh = self._traced(work, admission.fresh)
            outgoing = await handle(work, fresh) if handle is not None and fresh else []
            refused = {event.causation_id for _, event in outgoing if is_refused_for_now(event)}
            if refused:
                await inbox.refuse(work, subscription.group, [c for c in admission.fresh if c.id in refused])
            outgoing += [
                (subscription.rejects_to, rejection(c, inbox.REUSED, source=subscription.group, now=now))
                for c in admission.conflicting
            ]
            again = [command.id for command in (*admission.repeated, *admission.conflicting)]
            stored = await outbox.caused_by(work, again, source=subscription.group) if again else []
            return stored + await outbox.add(work, outgoing)

    def _traced(self, work: UnitOfWork, commands: Sequence[Envelope]) -> Sequence[Envelope]:
        """The commands, each in a step of its trace that ends with the commit; what follows from it belongs there."""
        spans = [(n, span) for n, command in enumerate(commands) if (span := self._begin(command)) is not None]
        if not spans:
            return commands
        traced = list(commands)
        for n, span in spans:
            traced[n] = replace(commands[n], traceparent=span.traceparent)
            work.after_commit.append(span.end)
        return traced

    def _begin(self, command: Envelope) -> tracing.Span | None:
        if command.traceparent is None:
            return None
        name, kind = f"{self._subscription.group} process", {"ragline.type": command.body.ce_type}
        return tracing.begin(name, parent=command.traceparent, kind="consumer", attributes=kind)

    async def _bury(self, item: _Received, error: Exception) -> None:
        """Keeps the record and tells its caller; no inbox row, so that a redrive takes effect."""
        dead = error if isinstance(error, DeadLetter) else DeadLetter("processing_failed", repr(error))
        tracing.CURRENT.set(item.envelope.traceparent)
        logger.error("dead letter: %s %s: %s", item.envelope.body.ce_type, item.envelope.id, error, exc_info=error)
        tracing.CURRENT.set(None)
        await self._dead_letters.keep(item.record, dead)
        reject = Reject("dead_lettered", 500, "this could not be processed; it is kept and the operators can see why")
        subscription = self._subscription
        try:
            async with self._database.transaction() as work:
                event = rejection(item.envelope, reject, source=subscription.group, now=await work.now())
                records = await outbox.add(work, [(subscription.rejects_to, event)])
        except (Retry, Stop):
            raise
        except Exception:  # what made the record fail stands in the rejection too: it is kept, and nobody can be told
            logger.exception("dead letter %s: its rejection cannot be stored", item.envelope.id)
            return
        await self._publisher.publish(records)

    def _back_off(
        self, consumer: AIOKafkaConsumer, polled: dict[TopicPartition, list[ConsumerRecord]], retry: Retry
    ) -> None:
        """Rewinds to what did not take effect and pauses those partitions; polling goes on."""
        self._retries.inc()
        now = asyncio.get_running_loop().time()
        for partition, records in polled.items():
            failures = self._failures[partition] = self._failures.get(partition, 0) + 1
            backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)  # noqa: S311
            with contextlib.suppress(IllegalStateError):  # revoked meanwhile: the new owner reads it
                consumer.seek(partition, records[0].offset)
                consumer.pause(partition)
                self._paused_until[partition] = now + (retry.after_s or backoff_s)
        logger.warning("%s: retry: %s", self._subscription.group, retry)

    def _resume_due(self, consumer: AIOKafkaConsumer) -> None:
        now = asyncio.get_running_loop().time()
        for partition in [p for p, at in self._paused_until.items() if at <= now]:
            del self._paused_until[partition]
            with contextlib.suppress(IllegalStateError):
                consumer.resume(partition)

    async def _commit_in_background(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._commit_wanted.wait()
            self._commit_wanted.clear()
            await self._commit(consumer, timeout_s=10.0)
            await asyncio.sleep(COMMIT_EVERY_S)

    async def _commit(self, consumer: AIOKafkaConsumer, *, timeout_s: float) -> None:
        """Commits what is done, by explicit offsets of assigned partitions; a failure costs a redelivery only."""
        owned = consumer.assignment()
        offsets = {partition: offset for partition, offset in self._done.items() if partition in owned}
        if not offsets:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            logger.warning("%s: offsets not committed: %r", self._subscription.group, error)
            return
        for partition, offset in offsets.items():
            if self._done.get(partition) == offset:
                del self._done[partition]
