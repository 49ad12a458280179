"""The chunks' one tail of this process, and the channels of the completions that somebody reads here (design §6)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

from producers.edge.caller import Principal
from producers.edge.channel import EMPTY_BASE, Channel, Owner
from producers.edge.frames import Ending
from producers.edge.partitions import partition_of
from producers.edge.problems import Unavailable, log_unavailable, not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.completions import StreamStart, stream_start
from producers.edge.requested import Requested, RequestedCompletions
from producers.edge.ring import Ring
from schemas.chunk_log import kind_of, read_chunk
from schemas.errors import Retry
from schemas.topics import CHAT_CHUNKS
from storage.log.tail import LogTruncated, Records, Tail, TopicPartition, read_range

logger = logging.getLogger(__name__)

LOOKBACK_S = 60.0
CLOCK_SKEW_S = 5.0
KNOWN_WITHIN_S = 5.0
RELOAD_EVERY_S = 2.0
MAX_REPLAYS = 8
PASS_TIMEOUT_S = 10.0


class StreamHub:
    """Gives a channel for a completion to whoever may read it; nothing is decoded that nobody reads."""

    def __init__(
        self,
        bootstrap: str,
        reads: Reads,
        requested: RequestedCompletions,
        *,
        client_id: str,
        ring_bytes: int,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self._reads = reads
        self._requested = requested
        self.tail = Tail(
            bootstrap,
            [CHAT_CHUNKS],
            self._on_records,
            client_id=client_id,
            lookback_s=LOOKBACK_S,
            max_wait_ms=100,
            wall_s=wall_s,
        )
        self._wall_s = wall_s
        self._rings = [Ring(ring_bytes // CHAT_CHUNKS.partitions) for _ in range(CHAT_CHUNKS.partitions)]
        self._channels: dict[bytes, Channel] = {}
        self._opening: dict[tuple[UUID, UUID], asyncio.Task[Channel | None]] = {}
        self._reloading: dict[bytes, asyncio.Task[None]] = {}
        self._replays = asyncio.Semaphore(MAX_REPLAYS)

    async def start(self) -> None:
        """Holds after: what was written in the last minute is being read. Raises: Retry."""
        since_s = self._wall_s() - LOOKBACK_S
        await self.tail.start()
        for partition, offset in self.tail.positions.items():
            self._rings[partition.partition].begin(offset=offset, since_s=since_s)

    async def stop(self) -> None:
        """Ends every stream with an error that says why, then the tail."""
        self.fail_all("edge_stopping", "this edge stops; connect again with Last-Event-ID")
        for task in (*self._opening.values(), *self._reloading.values()):
            task.cancel()
        await self.tail.stop()

    def fail_all(self, code: str, message: str) -> None:
        """Stops every reader with an error."""
        for channel in self._channels.values():
            channel.fail(code, message)
            channel.wake()

    @property
    def n_channels(self) -> int:
        """Completions that are read here."""
        return len(self._channels)

    @asynccontextmanager
    async def open(self, who: Principal, completion_id: UUID) -> AsyncIterator[Channel]:
        """The completion's channel, while the block runs; one that is not known yet is awaited for 5 s.

        Raises: Reject 404 for what is unknown or foreign; Unavailable if PostgreSQL cannot be asked.
        """
        channel = await self._find(who, completion_id)
        channel.n_open += 1
        try:
            yield channel
        finally:
            channel.n_open -= 1
            self._drop_if_unread(channel)

    async def let_pass(self, channel: Channel) -> None:
        """Returns when the fold has passed the partition's end as it is now. Raises: Unavailable."""
        partition = TopicPartition(CHAT_CHUNKS.name, self._partition(channel.completion_id))
        try:
            ends = await self.tail.end_offsets()
            async with asyncio.timeout(PASS_TIMEOUT_S):
                await self.tail.until({partition: ends[partition]})
        except (Retry, TimeoutError) as error:
            raise log_unavailable() from error

    async def _find(self, who: Principal, completion_id: UUID) -> Channel:
        loop = asyncio.get_running_loop()
        until = loop.time() + KNOWN_WITHIN_S
        while True:
            away: Unavailable | None = None
            try:
                channel = await self._open_once(who, completion_id)
                if channel is not None:
                    return channel
            except Unavailable as error:
                away = error
            left_s = until - loop.time()
            if left_s <= 0:
                raise away or not_found("completion")
            await self._requested.until_requested(completion_id, timeout_s=left_s)

    async def _open_once(self, who: Principal, completion_id: UUID) -> Channel | None:
        live = self._channels.get(str(completion_id).encode())
        if live is not None and self._may_join(who, live):
            return live
        key = (who.user_id, completion_id)
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.create_task(self._load(who, completion_id))
            task.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(task)

    def _may_join(self, who: Principal, live: Channel) -> bool:
        owner = live.owner
        return who.may_read(owner.tenant_id, owner.user_id) and not self._requested.is_deleted(owner.session_id)

    def _opened(self, key: tuple[UUID, UUID], task: asyncio.Task[Channel | None]) -> None:
        """Whoever asked may be gone: then nobody else looks at what was found."""
        del self._opening[key]
        if not task.cancelled() and task.exception() is None and (channel := task.result()) is not None:
            asyncio.get_running_loop().call_later(1.0, self._drop_if_unread, channel)

    async def _load(self, who: Principal, completion_id: UUID) -> Channel | None:
        """Base + log. A completion whose every record must stand in the ring needs no PostgreSQL."""
        requested = self._requested.get(completion_id)
        if requested is not None and not who.may_read(requested.tenant_id, requested.user_id):
            return None
        if requested is not None and self._ring(completion_id).floor_s <= requested.created_s - CLOCK_SKEW_S:
            channel = _begin(completion_id, requested)
            since_s = requested.created_s - CLOCK_SKEW_S
            return self._register(await self._caught_up(channel, None, since_s))
        try:
            start = await self._start(who.tenant_id, completion_id, user_id=who.reads_only)
        except Unavailable:
            if requested is None:
                raise
            since_s = requested.created_s - LOOKBACK_S
            return self._register(await self._caught_up(_begin(completion_id, requested), None, since_s))
        return None if start is None else self._register(await self._continued(completion_id, start))

    async def _start(self, tenant_id: UUID, completion_id: UUID, *, user_id: UUID | None) -> StreamStart | None:
        return await self._reads(tenant_id, lambda work: stream_start(work, tenant_id, completion_id, user_id=user_id))

    async def _continued(self, completion_id: UUID, start: StreamStart) -> Channel:
        if start.ending is not None:
            return Channel.ended(start.owner, start.ending, start.base.text)
        channel = Channel(completion_id, start.owner, start.base)
        return await self._caught_up(channel, start.offset, start.created_s - LOOKBACK_S, attempt=start.attempt)

    async def _caught_up(self, channel: Channel, offset: int | None, since_s: float, *, attempt: int = 0) -> Channel:
        """Folds what the log has after the base, up to now: what the ring lacks is read by a consumer of its own.

        Where the log has lost a part, what is left of attempts before the row's `attempt` does not count: their
        fence may be among what was lost (decision 0004).
        """
        ring, key = self._ring(channel.completion_id), str(channel.completion_id).encode()
        partition = TopicPartition(CHAT_CHUNKS.name, self._partition(channel.completion_id))
        while (ring.floor_s > since_s) if offset is None else (ring.floor > offset):
            floor = ring.floor
            try:
                await self._replay(channel, partition, offset, floor, since_s, whole=True)
            except LogTruncated as error:
                logger.warning("completion %s: %s", channel.completion_id, error)
                channel.has_gap = True
                channel.fence(attempt)
                await self._replay(channel, partition, offset, floor, since_s, whole=False)
            offset = floor
        for kind, value in ring.of_key(key, offset=offset, since_s=since_s):
            _fold(channel, kind, value)
        return channel

    async def _replay(
        self,
        channel: Channel,
        partition: TopicPartition,
        offset: int | None,
        end: int,
        since_s: float,
        *,
        whole: bool,
    ) -> None:
        """Folds a range of the log. Raises: LogTruncated, with nothing folded, if `whole` and a part is lost."""
        key = str(channel.completion_id).encode()
        try:
            async with self._replays:
                records = read_range(self._bootstrap, partition, offset, end, since_s=since_s, whole=whole)
                async with aclosing(records):  # type: ignore[type-var]
                    async for record in records:
                        if record.key == key:
                            _fold(channel, kind_of(record.headers), record.value)
        except Retry as error:
            raise log_unavailable() from error

    def _register(self, channel: Channel) -> Channel:
        """From here on the tail feeds it; called in the same step as the end of its catching up."""
        if channel.closing is not None:
            return channel
        live = self._channels.setdefault(str(channel.completion_id).encode(), channel)
        self._mend_if_needed(live)
        return live

    def _drop_if_unread(self, channel: Channel) -> None:
        key = str(channel.completion_id).encode()
        if channel.n_open == 0 and self._channels.get(key) is channel:
            del self._channels[key]
            reloading = self._reloading.get(key)
            if reloading is not None:
                reloading.cancel()

    def _on_records(self, partition: TopicPartition, records: Records) -> None:
        ring = self._rings[partition.partition]
        touched: dict[bytes, Channel] = {}
        for record in records:
            kind = kind_of(record.headers)
            ring.append(record, kind)
            channel = self._channels.get(record.key)
            if channel is not None:
                _fold(channel, kind, record.value)
                touched[record.key] = channel
        for key, channel in touched.items():
            if channel.closing is not None:
                del self._channels[key]
            self._mend_if_needed(channel)
            channel.wake()

    def _mend_if_needed(self, channel: Channel) -> None:
        key = str(channel.completion_id).encode()
        if (channel.is_short or channel.has_gap) and key not in self._reloading:
            task = self._reloading[key] = asyncio.create_task(self._mend(channel))
            task.add_done_callback(lambda _: self._reloading.pop(key, None))

    async def _mend(self, channel: Channel) -> None:
        """Loads base + log again until the channel is whole: after a gap, or at an end short of the text."""
        owner, key = channel.owner, str(channel.completion_id).encode()
        while channel.closing is None and (channel.is_short or channel.has_gap):
            try:
                start = await self._start(owner.tenant_id, channel.completion_id, user_id=None)
                if start is None:
                    channel.close(_deleted(channel))
                else:
                    channel.adopt(await self._continued(channel.completion_id, start))
                channel.wake()
            except Unavailable as error:
                logger.info("completion %s: not loaded again yet: %s", channel.completion_id, error)
            if channel.closing is None:
                await asyncio.sleep(RELOAD_EVERY_S)
        if self._channels.get(key) is channel and channel.closing is not None:
            del self._channels[key]

    def _partition(self, completion_id: UUID) -> int:
        return partition_of(CHAT_CHUNKS, str(completion_id).encode())

    def _ring(self, completion_id: UUID) -> Ring:
        return self._rings[self._partition(completion_id)]


def _begin(completion_id: UUID, requested: Requested) -> Channel:
    owner = Owner(requested.tenant_id, requested.user_id, requested.session_id, requested.message_id)
    return Channel(completion_id, owner, EMPTY_BASE)


def _fold(channel: Channel, kind: str, value: bytes | None) -> None:
    record = read_chunk(kind, value)
    if record is not None:
        channel.read(record)


def _deleted(channel: Channel) -> Ending:
    """What live readers are told when the session is gone."""
    epoch, end = channel.position
    return Ending(
        completion_id=channel.completion_id,
        message_id=channel.owner.message_id,
        epoch=epoch,
        end=end,
        status="cancelled",
        model=None,
        finish_reason=None,
        citations=(),
        usage=None,
        error=None,
    )
