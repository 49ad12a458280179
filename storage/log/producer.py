"""The idempotent producer: `acks=all`, order per partition, one encode per event."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.envelope import Envelope, Headers
from schemas.errors import Retry, Stop
from schemas.records import Body
from schemas.topics import BY_NAME, MAX_RECORD_BYTES, Topic
from storage.postgres.outbox import OutboxRecord
from telemetry.metrics import KAFKA_PUBLISH_FAILURES, KAFKA_PUBLISH_SECONDS

MAX_BATCH_BYTES = 512 * 1024
"""What one partition takes in one request: with aiokafka's 16 KiB a burst of events waits for many round trips."""


@functools.lru_cache(maxsize=100_000)
def _hashed(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes | None, partitions: list[int], available: list[int]) -> int:
    """Kafka's default partitioner; a key's hash is remembered: murmur2 is pure Python, 4–6 µs a key."""
    if key is None:
        return random.choice(available or partitions)  # noqa: S311 - spreads load
    return partitions[_hashed(key) % len(partitions)]


@dataclass(frozen=True, slots=True)
class Ack:
    """Where the broker put a record, and its stamp (ms of Unix time, the broker's where the topic says so)."""

    partition: int
    offset: int
    timestamp: int


class LogProducer:
    """Publishes to registered topics. One per process."""

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._died = asyncio.Event()
        self._cause = ""

    async def start(self) -> None:
        """Connects. Raises: Retry if no broker answers."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            partitioner=partition_of,
            max_request_size=MAX_RECORD_BYTES + 64 * 1024,
            request_timeout_ms=20_000,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise Retry(f"Kafka at {self._bootstrap}: {error}") from error
        self._producer = producer
        producer._sender.sender_task.add_done_callback(self._delivered)

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Sends what is buffered, for at most `timeout_s`."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            try:
                async with asyncio.timeout(timeout_s):
                    await producer.stop()
            except (TimeoutError, KafkaError):
                producer._closed = True  # the broker is away: what was not acked is in the outbox or was not accepted

    @property
    def is_dead(self) -> bool:
        """Whether a record was refused for good: what follows it on its partition would be refused too."""
        return self._died.is_set()

    async def watch(self) -> None:
        """Raises: Stop as soon as the producer has died for good (`OutOfOrderSequenceNumber` and the like)."""
        await self._died.wait()
        raise self._stop()

    def _stop(self) -> Stop:
        return Stop(f"the Kafka producer died for good, the process must start anew: {self._cause}")

    def _delivered(self, future: asyncio.Future[Any]) -> None:
        """An idempotent producer numbers its records: one that is refused leaves a gap that is never closed."""
        if self._producer is not None and not future.cancelled() and (error := future.exception()) is not None:
            self._cause = self._cause or repr(error)
            self._died.set()

    async def send_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, partition: int | None = None
    ) -> asyncio.Future[Ack]:
        """Hands one record over, to its key's partition; the future is done when the broker has it.

        Raises: Retry, Stop.
        """
        if self._producer is None:
            raise Retry("the producer is not connected")
        if self.is_dead:
            raise self._stop()
        try:
            future: asyncio.Future[Ack] = await self._producer.send(topic, value, key, partition, headers=headers)
        except KafkaError as error:
            raise Retry(f"Kafka: {error!r}") from error
        future.add_done_callback(self._delivered)
        return future

    async def send(self, topic: Topic, envelope: Envelope) -> asyncio.Future[Ack]:
        """Encodes and hands over one record. Raises: ValueError for a type the topic does not carry; Retry; Stop."""
        return await self.send_body(topic, envelope.body, envelope.headers())

    async def send_body(self, topic: Topic, body: Body, headers: Headers) -> asyncio.Future[Ack]:
        """As `send`, of a body whose headers are ready."""
        if body.ce_type not in topic.by_type:
            raise ValueError(f"{body.ce_type} is not registered on {topic.name}")
        key = body.key().encode()
        partition = _hashed(key) % topic.partitions
        return await self.send_raw(topic.name, key, body.encode(), headers, partition=partition)

    async def publish(self, topic: Topic, envelope: Envelope, *, timeout_s: float) -> Ack:
        """Sends and waits for the broker's ack. Raises: Retry when none came in time (it may still land)."""
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                ack = await asyncio.shield(await self.send(topic, envelope))
        except (TimeoutError, KafkaError) as error:
            KAFKA_PUBLISH_FAILURES.inc()
            raise Retry(f"Kafka did not acknowledge within {timeout_s} s: {error!r}") from error
        KAFKA_PUBLISH_SECONDS.observe(time.perf_counter() - began_s)
        return ack

    async def answers(self, *, timeout_s: float) -> bool:
        """Whether the broker tells where its topics stand."""
        if self._producer is None:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                return bool(await self._producer.client.force_metadata_update())
        except (TimeoutError, KafkaError, OSError):
            return False

    async def publish_records(self, records: Sequence[OutboxRecord]) -> None:
        """Publishes stored records in order and waits for every ack. Raises: Retry, Stop."""
        futures = []
        for record in records:
            if record.topic not in BY_NAME:
                raise ValueError(f"{record.topic} is not a registered topic")
            futures.append(await self.send_raw(record.topic, record.key.encode(), record.value, record.headers))
        await all_acked(futures)


async def all_acked(futures: Iterable[asyncio.Future[Ack]]) -> None:
    """Waits for every ack; a cancelled waiter leaves the sends alone. Raises: Retry for the first that failed."""
    waited = list(futures)
    if waited:
        await asyncio.wait(waited)
    for future in waited:
        if future.cancelled():
            raise Retry("the producer was closed before the broker answered")
        error = future.exception()
        if isinstance(error, KafkaError):
            raise Retry(f"Kafka: {error!r}") from error
        if error is not None:
            raise error
