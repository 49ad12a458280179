"""This edge's tail of the events: hands each event to those who wait for it, and decodes no other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.envelope import Envelope, decode
from schemas.errors import DeadLetter
from schemas.topics import BY_NAME, CHAT_EVENTS, KNOWLEDGE_EVENTS
from storage.log.tail import Records, Tail, TopicPartition

logger = logging.getLogger(__name__)

MAX_UNREAD = 1_000

OnRaw = Callable[[dict[str, bytes], bytes, float], None]


class Heard:
    """The events of one cause or subject, from the moment of listening on, in log order."""

    def __init__(self) -> None:
        self._unread: deque[Envelope] = deque(maxlen=MAX_UNREAD)
        self._waiting: asyncio.Future[None] | None = None
        self._is_given_up = False
        self.on_event: Callable[[], None] | None = None

    def put(self, event: Envelope) -> None:
        """Hands over one more event; the oldest unread is dropped when nobody reads for long."""
        self._unread.append(event)
        if self.on_event is not None:
            self.on_event()
        self._rouse()

    def give_up(self) -> None:
        """From here on nobody waits: what was not heard yet did not come in time."""
        self._is_given_up = True
        self._rouse()

    async def next(self, *, timeout_s: float | None) -> Envelope | None:
        """The next event, or None if none came in time."""
        if not self._unread:
            if self._is_given_up or (timeout_s is not None and timeout_s <= 0):
                return None
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.wait([waiting], timeout=timeout_s)
        return self._unread.popleft() if self._unread else None

    def _rouse(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class EventTail:
    """Chat and knowledge events, by what caused them and by what they are about."""

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        self.tail = Tail(
            bootstrap, [CHAT_EVENTS, KNOWLEDGE_EVENTS], self._on_records, client_id=client_id, max_wait_ms=100
        )
        self._by_cause: dict[bytes, list[Heard]] = {}
        self._by_subject: dict[bytes, list[Heard]] = {}
        self._on_type: dict[bytes, OnRaw] = {}
        self._by_tenant: dict[bytes, list[Callable[[], None]]] = {}
        self._is_stopping = False

    def stop_waits(self) -> None:
        """Whoever waits for an event is told that it did not come in time: the edge is about to end."""
        self._is_stopping = True
        for registry in (self._by_cause, self._by_subject):
            for listeners in registry.values():
                for heard in listeners:
                    heard.give_up()

    def on_type(self, ce_type: str, hear: OnRaw) -> None:
        """Every event of a type goes to `hear`, raw: its headers, its value, and when the broker took it (Unix time).

        It must not block or fail.
        """
        self._on_type[ce_type.encode()] = hear

    @contextmanager
    def caused_by(self, command_id: object) -> Iterator[Heard]:
        """Listens, while the block runs, for what follows from a command."""
        with self._listening(self._by_cause, str(command_id).encode()) as heard:
            yield heard

    @contextmanager
    def about(self, subject: object) -> Iterator[Heard]:
        """Listens, while the block runs, for what happens to a session or document."""
        with self._listening(self._by_subject, str(subject).encode()) as heard:
            yield heard

    @contextmanager
    def of_tenant(self, tenant_id: object, wake: Callable[[], None]) -> Iterator[None]:
        """Calls `wake`, while the block runs, for each event of a tenant. It must not block or fail."""
        wakes = self._by_tenant.setdefault(str(tenant_id).encode(), [])
        wakes.append(wake)
        try:
            yield
        finally:
            wakes.remove(wake)
            if not wakes:
                del self._by_tenant[str(tenant_id).encode()]

    def _on_records(self, partition: TopicPartition, records: Records) -> None:
        for record in records:
            headers: dict[str, bytes] = dict(record.headers)
            for wake in self._by_tenant.get(headers.get("ce_tenantid", b""), ()):
                wake()
            listeners = [
                *self._by_cause.get(headers.get("ce_causationid", b""), ()),
                *self._by_subject.get(headers.get("ce_subject", b""), ()),
            ]
            on_type = self._on_type.get(headers.get("ce_type", b""))
            if on_type is not None and record.value:
                on_type(headers, record.value, record.timestamp / 1000)
            if not listeners:
                continue
            try:
                event = decode(BY_NAME[partition.topic], record.headers, record.value)
            except DeadLetter as error:
                logger.warning("%s/%s/%s: %s", partition.topic, partition.partition, record.offset, error)
                continue
            for heard in listeners:
                heard.put(event)

    @contextmanager
    def _listening(self, registry: dict[bytes, list[Heard]], key: bytes) -> Iterator[Heard]:
        heard = Heard()
        if self._is_stopping:
            heard.give_up()
        registry.setdefault(key, []).append(heard)
        try:
            yield heard
        finally:
            registry[key].remove(heard)
            if not registry[key]:
                del registry[key]
