"""Dead letters: browse what could not be processed, see why, drive it again, or mark it as done with (design §5.7).

Read straight from the log, by bounded reads without a group. A redriven record is the same record, with the same
`ce_id`: what took effect once does not take effect again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from schemas.dead_letters import ActionName, DeadLetterAction, DeadLetterView
from schemas.errors import Reject, Retry
from schemas.topics import TOPICS, Topic
from storage.log.dead_letters import original_headers
from storage.log.producer import LogProducer, all_acked
from storage.log.tail import ConsumerRecord, TopicPartition, read_now
from storage.postgres.dead_letter_actions import Place, action_on, actions_on, remember
from storage.postgres.unit_of_work import Database

PUBLISH_WITHIN_S = 10.0
CLOCKS_DIFFER_S = 60.0
NO_LATER_MS = 9_999_999_999_999  # what a header claims may be nonsense; a date must hold it

KEEPING: dict[str, Topic] = {topic.name: topic for topic in TOPICS if topic.has_dead_letters}
_SUFFIX = ".dlq"

Order = tuple[datetime, str, int, int]
"""Dead letters by time; unique."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; what is None does not count. `type` may be the beginning of one. `is_open`: nothing was done."""

    topic: str | None = None
    reason: str | None = None
    type: str | None = None
    id: str | None = None
    since: datetime | None = None
    tenant_id: UUID | None = None
    is_open: bool | None = None
    before: Order | None = None

    def fits(self, letter: DeadLetterView) -> bool:
        """Whether the letter is one of them."""
        return (
            self.reason in {None, letter.reason}
            and (self.type is None or (letter.type or "").startswith(self.type))
            and self.id in {None, letter.id}
            and (self.since is None or letter.at >= self.since)
            and self.tenant_id in {None, letter.tenant_id}
            and self.is_open in {None, letter.action is None}
            and (self.before is None or order_of(letter) < self.before)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The letters, and how many there are in all."""

    letters: Sequence[DeadLetterView]
    n_matched: int


class Reasons(NamedTuple):
    """Why letters of one topic and type are dead, and how many."""

    topic: str
    type: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many letters, how many of them open, and when the last came."""

    n_letters: int
    n_open: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Whole:
    """A letter with its headers (as text, unreadable bytes escaped) and its body."""

    letter: DeadLetterView
    headers: Sequence[tuple[str, str]]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Done:
    """A letter with the action on it. Not `is_new`: it was done before, and nothing was done now."""

    letter: DeadLetterView
    is_new: bool


class DeadLetterDesk:
    """Reads and redrives dead letters. `producer` None: it only reads and marks."""

    def __init__(self, bootstrap: str, database: Database, producer: LogProducer | None) -> None:
        self._bootstrap = bootstrap
        self._database = database
        self._producer = producer

    async def browse(self, wanted: Wanted, *, limit: int, oldest_first: bool = False) -> Found:
        """At most `limit` letters in order of time, newest first unless told otherwise. Raises: Reject; Retry."""
        sign = -1 if oldest_first else 1
        kept: list[tuple[float, tuple[str, int, int], DeadLetterView]] = []
        n_matched = 0
        async for letter in self._letters(wanted):
            n_matched += 1
            place = (letter.topic, sign * letter.partition, sign * letter.offset)
            heapq.heappush(kept, (sign * letter.at.timestamp(), place, letter))
            if len(kept) > limit:
                heapq.heappop(kept)
        letters = [letter for *_, letter in kept]
        return Found(sorted(letters, key=order_of, reverse=not oldest_first), n_matched)

    async def stats(self, wanted: Wanted) -> dict[Reasons, Count]:
        """How many letters for which reason, the most frequent first. Raises: Reject; Retry."""
        counts: dict[Reasons, Count] = {}
        async for letter in self._letters(wanted):
            why = Reasons(letter.topic, letter.type, letter.reason)
            before = counts.get(why, Count(0, 0, letter.at))
            n_open = before.n_open + (letter.action is None)
            counts[why] = Count(before.n_letters + 1, n_open, max(before.last_at, letter.at))
        return dict(sorted(counts.items(), key=lambda item: -item[1].n_letters))

    async def read(self, place: Place, *, tenant_id: UUID | None = None) -> Whole:
        """One letter, whole. Raises: Reject 404, also for another tenant's; Retry."""
        actions = await self._actions([_kept(place.topic).name])
        async with aclosing(self._records([place])) as records:
            async for record in records:
                letter = letter_of(record, actions)
                if tenant_id in {None, letter.tenant_id}:
                    headers = [(name, _text(raw or b"")) for name, raw in record.headers]
                    return Whole(letter, headers, record.value)
        raise Reject("dead_letter_not_found", 404, f"there is no dead letter at {shown(place)}")

    async def redrive(self, places: Sequence[Place], *, by: str) -> AsyncGenerator[Done, None]:
        """Publishes each record to its original topic as it was, in log order; one that was redriven before is not.

        A death between publish and audit record leaves a letter that may be redriven again, which changes nothing.
        Raises: Retry; what was yielded stays done.
        """
        async with aclosing(self._records(places)) as records:
            async for record in records:
                yield await self._act(letter_of(record, {}), "redriven", by=by, record=record)

    async def discard(self, letters: Sequence[DeadLetterView], *, by: str) -> AsyncIterator[Done]:
        """Marks letters as done with; the log keeps them for as long as it would. Raises: Retry."""
        for letter in letters:
            yield await self._act(letter, "discarded", by=by, record=None)

    async def _act(self, letter: DeadLetterView, action: ActionName, *, by: str, record: ConsumerRecord | None) -> Done:
        place = place_of(letter)
        async with self._database.transaction() as work:
            done = await remember(work, place, action, by=by, record_id=letter.id, tenant_id=letter.tenant_id)
            if done is None:
                before = await action_on(work, place, action)
                return Done(letter.model_copy(update={"action": before}), is_new=False)
            if record is not None:
                await self._publish(letter.topic, record)
        return Done(letter.model_copy(update={"action": done}), is_new=True)

    async def _publish(self, topic: str, record: ConsumerRecord) -> None:
        if self._producer is None:
            raise RuntimeError("this desk was made without a producer")
        try:
            async with asyncio.timeout(PUBLISH_WITHIN_S):
                future = await self._producer.send_raw(topic, record.key, record.value, original_headers(record))
                await all_acked([future])
        except TimeoutError as error:
            raise Retry(f"Kafka did not acknowledge within {PUBLISH_WITHIN_S} s") from error

    async def _letters(self, wanted: Wanted) -> AsyncIterator[DeadLetterView]:
        topics = list(KEEPING.values()) if wanted.topic is None else [_kept(wanted.topic)]
        actions = await self._actions([topic.name for topic in topics])
        ranges = dict.fromkeys(TopicPartition(t.dead_letter_topic, p) for t in topics for p in range(t.partitions))
        since_s = max(0.0, wanted.since.timestamp() - CLOCKS_DIFFER_S) if wanted.since is not None else None
        async with aclosing(read_now(self._bootstrap, ranges, since_s=since_s)) as records:
            async for record in records:
                letter = letter_of(record, actions)
                if wanted.fits(letter):
                    yield letter

    async def _records(self, places: Sequence[Place]) -> AsyncGenerator[ConsumerRecord, None]:
        """The records at these places, in log order."""
        ranges: dict[TopicPartition, tuple[int, int] | None] = {}
        for topic, partition, offset in places:
            if partition >= _kept(topic).partitions:
                continue
            at = TopicPartition(topic + _SUFFIX, partition)
            first, last = ranges.get(at) or (offset, offset)
            ranges[at] = (min(first, offset), max(last, offset + 1))
        chosen = set(places)
        if not ranges:
            return
        async with aclosing(read_now(self._bootstrap, ranges)) as records:
            async for record in records:
                if Place(record.topic.removesuffix(_SUFFIX), record.partition, record.offset) in chosen:
                    yield record

    async def _actions(self, topics: Sequence[str]) -> dict[Place, DeadLetterAction]:
        async with self._database.transaction() as work:
            return await actions_on(work, topics)


def letter_of(record: ConsumerRecord, actions: Mapping[Place, DeadLetterAction]) -> DeadLetterView:
    """What a dead letter's headers say. Where a name stands twice, the last counts: that is the runner's own."""
    headers = {name: _text(raw or b"") for name, raw in record.headers}
    place = Place(record.topic.removesuffix(_SUFFIX), record.partition, record.offset)
    at_ms = _number(headers.get("dlq_time_ms")) or record.timestamp
    return DeadLetterView(
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        reason=headers.get("dlq_reason", "unknown"),
        step=headers.get("dlq_step", ""),
        error=headers.get("dlq_error", ""),
        at=datetime.fromtimestamp(min(at_ms, NO_LATER_MS) / 1000, UTC),
        type=headers.get("ce_type"),
        id=headers.get("ce_id"),
        tenant_id=_uuid(headers.get("ce_tenantid")),
        user_id=_uuid(headers.get("ce_userid")),
        key=_text(record.key) if record.key is not None else None,
        size_bytes=len(record.value or b""),
        original_partition=_number(headers.get("dlq_partition")),
        original_offset=_number(headers.get("dlq_offset")),
        action=actions.get(place),
    )


def place_of(letter: DeadLetterView) -> Place:
    """Where the letter stands."""
    return Place(letter.topic, letter.partition, letter.offset)


def order_of(letter: DeadLetterView) -> Order:
    """Its place in order of time."""
    return (letter.at, letter.topic, letter.partition, letter.offset)


def shown(place: Place) -> str:
    """`<topic>/<partition>/<offset>`, as the command line takes it."""
    return f"{place.topic}/{place.partition}/{place.offset}"


def _kept(topic: str) -> Topic:
    """Raises: Reject 404 for a topic without dead letters."""
    name = topic.removesuffix(_SUFFIX)
    if name not in KEEPING:
        known = ", ".join(KEEPING)
        raise Reject("topic_not_found", 404, f'"{topic}" has no dead letters; known: {known}', field="topic")
    return KEEPING[name]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 16 else None


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        return None
