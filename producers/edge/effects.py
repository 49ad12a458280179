"""Commands: published with a deadline, then what they cause is awaited (design §5.1, §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from producers.edge.caller import Caller
from producers.edge.event_tail import EventTail, Heard
from producers.edge.problems import log_unavailable
from producers.edge.requests import idempotency_key
from schemas.envelope import Envelope
from schemas.errors import Reject, Retry
from schemas.events import CommandRejected
from schemas.http import RequestBody
from schemas.ids import canonical_hash, derived_id, new_id
from schemas.records import Body
from schemas.topics import Topic
from storage.log.producer import LogProducer

SOURCE = "edge"


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of what a request makes: new ones, or the same again under the same Idempotency-Key."""

    idempotency_id: UUID | None

    @classmethod
    def of(cls, caller: Caller) -> Identity:
        """Raises: Reject 422 for a malformed key."""
        key = idempotency_key(caller.headers)
        if key is None:
            return _FRESH
        who = caller.principal
        path = f"{caller.method} {caller.path}"
        return cls(derived_id("idempotency", who.tenant_id, who.user_id, path, key))

    def new(self, what: str) -> UUID:
        """The id of the `what` that this request makes."""
        return new_id() if self.idempotency_id is None else derived_id(self.idempotency_id, what)

    def command_id(self, sent: RequestBody | Mapping[str, object] | None) -> UUID:
        """`ce_id` of the command; under a key it stands for what the client sent, too."""
        if self.idempotency_id is None:
            return new_id()
        canonical = sent.model_dump(mode="json", exclude_unset=True) if isinstance(sent, RequestBody) else sent
        return derived_id(self.idempotency_id, canonical_hash(canonical))


_FRESH = Identity(None)


class Effects:
    """Publishes commands and hears what follows from them."""

    def __init__(self, producer: LogProducer, events: EventTail, *, publish_deadline_s: float) -> None:
        self._producer = producer
        self._events = events
        self._deadline_s = publish_deadline_s

    def command(
        self, caller: Caller, body: Body, identity: Identity, sent: RequestBody | Mapping[str, object] | None
    ) -> Envelope:
        """The command as the caller gives it; `sent` is the request's body."""
        return Envelope(
            body=body,
            tenant_id=caller.principal.tenant_id,
            user_id=caller.principal.user_id,
            source=SOURCE,
            id=identity.command_id(sent),
            traceparent=caller.trace.traceparent,
            idempotency_id=identity.idempotency_id,
        )

    async def publish(self, topic: Topic, command: Envelope) -> None:
        """Holds after: the broker has the command. Raises: Unavailable if it did not say so in time."""
        try:
            await self._producer.publish(topic, command, timeout_s=self._deadline_s)
        except Retry as retry:
            raise log_unavailable(may_repeat=command.idempotency_id is not None) from retry

    @contextmanager
    def listening(self, command: Envelope) -> Iterator[Effect]:
        """Hears, while the block runs, what follows from a command; begin before it is published."""
        with self._events.caused_by(command.id) as heard:
            yield Effect(heard)

    async def perform(self, topic: Topic, command: Envelope, *awaited: type[Body], wait_s: float) -> dict[str, Body]:
        """Publishes, then waits until there is one event of each awaited type; by `ce_type`.

        Empty if the wait ran out: the command is safe and will take effect. Raises: Reject as the consumer decided;
        Unavailable if the broker did not take it.
        """
        if wait_s <= 0:
            await self.publish(topic, command)
            return {}
        with self.listening(command) as effect:
            await self.publish(topic, command)
            return await effect.of(*awaited, wait_s=wait_s)


class Effect:
    """What has followed from one command."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._found: dict[str, Body] = {}

    async def of(self, *awaited: type[Body], wait_s: float | None) -> dict[str, Body]:
        """One event of each awaited type, or nothing if the wait ran out. Raises: Reject."""
        loop = asyncio.get_running_loop()
        until = None if wait_s is None else loop.time() + wait_s
        while not all(kind.ce_type in self._found for kind in awaited):
            body = await self.next(wait_s=None if until is None else until - loop.time())
            if body is None:
                return {}
        return self._found

    async def first(self, *kinds: type[Body], wait_s: float) -> Body | None:
        """The first event of any of these types, or None if the wait ran out. Raises: Reject."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while (body := await self.next(wait_s=until - loop.time())) is not None:
            if isinstance(body, kinds):
                return body
        return None

    async def next(self, *, wait_s: float | None) -> Body | None:
        """The next event, or None if none came in time. Raises: Reject."""
        event = await self._heard.next(timeout_s=wait_s)
        if event is None:
            return None
        if isinstance(event.body, CommandRejected):
            told = event.body
            reject = Reject(told.code, told.status, told.detail, field=told.field)
            reject.extra = told.extra
            raise reject
        self._found.setdefault(event.body.ce_type, event.body)
        return event.body
