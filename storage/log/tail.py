"""Group-less readers: tails that follow topics from a point in time, and bounded replays of a range."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import RaglineError, Retry
from schemas.topics import MAX_RECORD_BYTES, Topic

__all__ = ["ConsumerRecord", "LogTruncated", "OnRecords", "Records", "Tail", "TopicPartition", "read_now", "read_range"]

READ_NOW_BYTES = 8 * 1024 * 1024
"""How much of several partitions is fetched ahead of their reader."""

Records = Sequence[ConsumerRecord]
OnRecords = Callable[[TopicPartition, Records], None]


def _consumer(bootstrap: str, *, client_id: str, max_wait_ms: int, **options: object) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=max_wait_ms,
        max_partition_fetch_bytes=MAX_RECORD_BYTES * 2,
        check_crcs=False,
        **options,
    )


class LogTruncated(RaglineError):  # noqa: N818 - a fact
    """The log no longer reaches back to where a reader wants to begin."""


class Tail:
    """Follows every partition of some topics, without a group, from `lookback_s` before now.

    `on_records` is called in the loop with raw records of one partition, in order; it must not block.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[Topic],
        on_records: OnRecords,
        *,
        client_id: str,
        lookback_s: float | None = 0.0,
        max_wait_ms: int = 100,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self._wall_s = wall_s
        self._partitions = [TopicPartition(t.name, p) for t in topics for p in range(t.partitions)]
        self._on_records = on_records
        self._client_id = client_id
        self._lookback_s = lookback_s
        self._max_wait_ms = max_wait_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self.positions: dict[TopicPartition, int] = {}
        self._advanced = asyncio.Event()

    async def start(self) -> None:
        """Ready when every partition's position is known. `lookback_s=None` reads from the beginning. Raises: Retry."""
        consumer = _consumer(self._bootstrap, client_id=self._client_id, max_wait_ms=self._max_wait_ms)
        try:
            await consumer.start()
            consumer.assign(self._partitions)
            await self._seek(consumer)
            for partition in self._partitions:
                self.positions[partition] = await consumer.position(partition)
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise Retry(f"Kafka at {self._bootstrap}: {error}") from error
        self._consumer = consumer
        self._task = asyncio.create_task(self._run(consumer), name=f"tail {self._client_id}")

    async def stop(self) -> None:
        """Ends the tail."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def task(self) -> asyncio.Task[None]:
        """Runs until stopped; ends early only with an error that should end the process."""
        if self._task is None:
            raise RuntimeError("the tail was not started")
        return self._task

    async def end_offsets(self, *, timeout_s: float = 5.0) -> dict[TopicPartition, int]:
        """The offset after the newest record, by partition. Raises: Retry if the broker does not answer."""
        if self._consumer is None:
            raise Retry("the tail is not connected")
        try:
            async with asyncio.timeout(timeout_s):
                ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self._partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Retry(f"Kafka: {error!r}") from error
        return ends

    async def until(self, targets: dict[TopicPartition, int]) -> None:
        """Returns when everything before the targets has been handed to `on_records`."""
        while any(self.positions[partition] < offset for partition, offset in targets.items()):
            self._advanced.clear()
            await self._advanced.wait()

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        if self._lookback_s is None:
            await consumer.seek_to_beginning(*self._partitions)
            return
        await consumer.seek_to_end(*self._partitions)
        if self._lookback_s > 0:
            since_ms = int((self._wall_s() - self._lookback_s) * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(self._partitions, since_ms))
            for partition, at in found.items():
                if at is not None:
                    consumer.seek(partition, at.offset)

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for partition, records in batches.items():
                self._on_records(partition, records)
                self.positions[partition] = records[-1].offset + 1
            if not batches:  # compaction leaves offsets behind that no record tells of
                self.positions = {partition: await consumer.position(partition) for partition in self._partitions}
            self._advanced.set()


async def read_range(
    bootstrap: str,
    partition: TopicPartition,
    start: int | None,
    end: int,
    *,
    since_s: float | None = None,
    whole: bool = False,
    timeout_s: float = 30.0,
) -> AsyncIterator[ConsumerRecord]:
    """Records `[start, end)` of one partition that the log still has, by a consumer of its own.

    `start` None means: from the first record at or after `since_s` (seconds of Unix time).
    Raises: LogTruncated if `whole` and retention has removed a part of the range; Retry when the broker does
    not deliver in time.
    """
    consumer = _consumer(bootstrap, client_id="ragline-replay", max_wait_ms=50)
    try:
        await consumer.start()
        consumer.assign([partition])
        first = await _first_offset(consumer, partition, start, since_s, end, whole=whole)
        if first >= end:
            return
        consumer.seek(partition, first)
        async with asyncio.timeout(timeout_s):
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        if record.offset < end:
                            yield record
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retry(f"Kafka: {error!r}") from error
    finally:
        await consumer.stop()


async def _first_offset(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    start: int | None,
    since_s: float | None,
    end: int,
    *,
    whole: bool,
) -> int:
    beginning: int = (await consumer.beginning_offsets([partition]))[partition]
    if start is None:
        at = (await consumer.offsets_for_times({partition: int((since_s or 0) * 1000)}))[partition]
        first: int = at.offset if at is not None else end
        if whole and beginning and first <= beginning:
            raise LogTruncated(f"{partition.topic}/{partition.partition} begins at {beginning}")
        return first
    if whole and start < beginning:
        raise LogTruncated(f"{partition.topic}/{partition.partition} begins at {beginning}, not {start}")
    return max(start, beginning)


async def read_now(
    bootstrap: str,
    ranges: Mapping[TopicPartition, tuple[int, int] | None],
    *,
    since_s: float | None = None,
    timeout_s: float = 10.0,
) -> AsyncGenerator[ConsumerRecord, None]:
    """What stands now in the partitions, of each within its `[start, end)` if one is given; in order per partition.

    `since_s` (Unix time) skips what is older. Raises: Retry when the broker does not deliver for `timeout_s`.
    """
    consumer = _consumer(bootstrap, client_id="ragline-replay", max_wait_ms=50, fetch_max_bytes=READ_NOW_BYTES)
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.start()
            consumer.assign(list(ranges))
            ends = await _seek_to_ranges(consumer, ranges, since_s)
        heard_at = time.monotonic()
        while ends:
            polled = await consumer.getmany(*ends, timeout_ms=500)
            if polled:
                heard_at = time.monotonic()
            else:
                _check_still_there(heard_at, timeout_s)
            for partition, records in polled.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
                heard_at = time.monotonic()
            for partition in [tp for tp in ends if tp in polled or not polled]:
                if await consumer.position(partition) >= ends[partition]:
                    del ends[partition]
                    consumer.pause(partition)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retry(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()


def _check_still_there(heard_at: float, timeout_s: float) -> None:
    if time.monotonic() - heard_at > timeout_s:
        raise TimeoutError(f"nothing within {timeout_s} s")


async def _seek_to_ranges(
    consumer: AIOKafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int] | None], since_s: float | None
) -> dict[TopicPartition, int]:
    """Seeks to where each range begins; the offset after its end, of those that hold anything."""
    partitions = list(ranges)
    begins, newest = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, int((since_s or 0) * 1000)))
    ends = {}
    for partition, wanted in ranges.items():
        start, end = wanted or (0, newest[partition])
        first = max(start, begins[partition])
        if since_s is not None:
            at = found[partition]
            first = max(first, at.offset) if at is not None else newest[partition]
        if first < min(end, newest[partition]):
            ends[partition] = min(end, newest[partition])
            consumer.seek(partition, first)
        else:
            consumer.pause(partition)
    return ends
