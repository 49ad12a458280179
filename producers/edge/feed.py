"""The tenant's feed: every public event in commit order, as server-sent events or page by page (design §8).

Read from the kept outbox rows, so that any edge serves any cursor; this edge's tail only says when to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response

from producers.edge.asgi import Receive, Send
from producers.edge.caller import Asking, Caller, Principal
from producers.edge.cursors import DEFAULT_LIMIT, MAX_LIMIT, Cursor, Limit, clamped, decode_cursor, encode_cursor
from producers.edge.event_tail import EventTail
from producers.edge.problems import Unavailable
from producers.edge.reads.bounded import Reads
from producers.edge.reads.feed import BEGINNING, Filter, Position, Row, Slice, feed_after, horizon
from producers.edge.requests import MAX_WAIT_S
from producers.edge.responses import AsgiResponse, raw_json_response
from producers.edge.sse import EventStream, OpenStreams
from schemas.errors import Reject
from schemas.feed import PUBLIC_TYPES, FeedPage

KIND = "feed"
KEPT_S = 31 * 86_400
FALLBACK_S, FIRST_RECHECK_S, BETWEEN_READS_S = 2.0, 0.05, 0.05
CURSOR_EVERY_S = 60.0
MAX_READS = 4

_INTERNAL = frozenset({"ce_idempotencyid"})
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}

Types = Annotated[str | None, Query(description="Comma-separated event types, or beginnings of them.")]
Wait = Annotated[float, Query(ge=0, description=f"Seconds to wait for the first event, at most {MAX_WAIT_S:.0f}.")]


class FeedRoutes:
    """`/events`. An `admin` sees the tenant's events; others see their own, and what happens to documents."""

    def __init__(self, events: EventTail, reads: Reads, streams: OpenStreams) -> None:
        self._events = events
        self._reads = reads
        self._streams = streams
        self._reading = asyncio.Semaphore(MAX_READS)

    def add_to(self, router: APIRouter) -> None:
        """Declares the route."""
        router.add_api_route("/events", self.follow, methods=["GET"], response_model=FeedPage, responses=_STREAM)

    async def follow(
        self,
        caller: Asking,
        *,
        cursor: Cursor = None,
        start: Annotated[Literal["now", "beginning"], Query(alias="from")] = "now",
        types: Types = None,
        session_id: UUID | None = None,
        document_id: UUID | None = None,
        limit: Limit = DEFAULT_LIMIT,
        wait: Wait = 0.0,
    ) -> Response:
        """Follow what happens in the tenant, from a cursor (or `Last-Event-ID`) on, else from now on."""
        who = caller.principal
        wanted = Filter(who.reads_only, _types(types), session_id, document_id)
        reader = Reader(self._reads, self._reading, who.tenant_id, wanted)
        await reader.begin(_position(caller, cursor), from_beginning=start == "beginning")
        if b"text/event-stream" in caller.headers.get(b"accept", b""):
            return AsgiResponse(lambda receive, send: self._stream(reader, receive, send))
        page = await self._page(reader, clamped(limit), min(wait, MAX_WAIT_S))
        body = {"items": [_item(row) for row in page.rows], "next_cursor": reader.cursor}
        return raw_json_response(orjson.dumps(body), 200)

    async def _page(self, reader: Reader, limit: int, wait_s: float) -> Slice:
        """The next events; without any, waits for them, but not while the edge stops."""
        until, woken = time.monotonic() + wait_s, asyncio.Event()
        with self._events.of_tenant(reader.tenant_id, woken.set), self._streams.on_stop(woken.set):
            while True:
                woken.clear()
                found = await reader.next(limit)
                left_s = until - time.monotonic()
                if found.rows or self._streams.is_stopping or left_s <= 0:
                    return found
                await _set_within(woken, min(left_s, reader.pause_s))

    async def _stream(self, reader: Reader, receive: Receive, send: Send) -> None:
        with self._streams.seat():
            async with self._streams.answer(receive, send, headers=[]) as stream:
                with self._events.of_tenant(reader.tenant_id, stream.wake):
                    await _serve(reader, stream)


class Reader:
    """One reader's way through the feed."""

    def __init__(self, reads: Reads, reading: asyncio.Semaphore, tenant_id: UUID, wanted: Filter) -> None:
        self._reads = reads
        self._reading = reading
        self._wanted = wanted
        self._position = BEGINNING
        self._at_s = 0.0
        self._next_read_at = 0.0
        self._held_up_s = 0.0
        self.tenant_id = tenant_id
        self.pause_s = FALLBACK_S

    async def begin(self, position: Mark | None, *, from_beginning: bool) -> None:
        """Takes its place. Raises: Reject 400 for a position that no reader can have yet; Unavailable."""
        async with self._reading:
            now = await self._reads(self.tenant_id, horizon)
        self._position, self._at_s = BEGINNING if from_beginning else now, time.time()
        if position is not None:
            if position.position > now:
                raise invalid_cursor("this cursor is ahead of the feed", position.field)
            self._position, self._at_s = position.position, position.at_s

    async def next(self, limit: int) -> Slice:
        """What follows, and `pause_s` to wait for a wake-up before the next read. Raises: Unavailable."""
        await asyncio.sleep(max(0.0, self._next_read_at - time.monotonic()))
        async with self._reading:
            self._next_read_at = time.monotonic() + BETWEEN_READS_S
            found = await self._reads(
                self.tenant_id, lambda work: feed_after(work, self._position, self._wanted, limit=limit)
            )
        self._position, self._at_s = found.read_to, found.read_to_at.timestamp()
        if not found.is_held_up:
            self._held_up_s = 0.0
        elif found.rows or not self._held_up_s:
            self._held_up_s = FIRST_RECHECK_S
        else:
            self._held_up_s = min(FALLBACK_S, 2 * self._held_up_s)
        self.pause_s = 0.0 if found.has_more else self._held_up_s or FALLBACK_S
        return found

    @property
    def cursor(self) -> str:
        """After all that was read."""
        return self.cursor_at(self._position, self._at_s)

    def cursor_at(self, position: Position, at_s: float) -> str:
        """After the event at `position`."""
        return encode_cursor(KIND, self.tenant_id, position.xact_id, position.seq, int(at_s))


@dataclass(frozen=True, slots=True)
class Mark:
    """A cursor that a client has sent, and where it stood."""

    position: Position
    at_s: float
    field: str


async def _serve(reader: Reader, stream: EventStream) -> None:
    """Writes what comes for as long as the client stays; while PostgreSQL is away it waits."""
    loop, told_at = asyncio.get_running_loop(), float("-inf")
    while True:
        data, pause_s = b"", FALLBACK_S
        with contextlib.suppress(Unavailable):
            found = await reader.next(MAX_LIMIT)
            data, pause_s = b"".join(_frame(reader, row) for row in found.rows), reader.pause_s
        if not data and told_at <= loop.time() - CURSOR_EVERY_S:
            data = _id_alone(reader.cursor)
        if data:
            told_at = loop.time()
            await stream.write(data)
        timer = loop.call_later(pause_s, stream.wake)
        try:
            await stream.wait()
        finally:
            timer.cancel()


def invalid_cursor(detail: str, field: str) -> Reject:
    """What was given is no place in this tenant's feed."""
    return Reject("invalid_cursor", 400, detail, field=field)


def _position(caller: Caller, cursor: str | None) -> Mark | None:
    """Where the client is; `Last-Event-ID` is newer than the address. Raises: Reject 400; 410 beyond what is kept."""
    last = caller.headers.get(b"last-event-id", b"").decode("latin-1")
    field, text = ("Last-Event-ID", last) if last else ("cursor", cursor)
    if text is None:
        return None
    mark = _decoded(caller.principal, text, field)
    if mark.at_s < time.time() - KEPT_S:
        detail = f"events are kept {KEPT_S // 86_400} days; what came after this cursor may be gone: begin again"
        raise Reject("cursor_expired", 410, detail, field=field)
    return mark


def _decoded(who: Principal, text: str, field: str) -> Mark:
    refused = invalid_cursor("this is not a cursor of this tenant's feed", field)
    try:
        values = decode_cursor(KIND, who.tenant_id, text)
    except Reject:
        raise refused from None
    match values:
        case [int() as xact_id, int() as seq, int() as at_s]:
            if 0 <= xact_id < 2**63 and 0 <= seq < 2**63 and 0 <= at_s < 2**40:
                return Mark(Position(xact_id, seq), at_s, field)
    raise refused


def _types(text: str | None) -> Sequence[str]:
    """The public types that are meant. Raises: Reject 422 for a name that means none."""
    if text is None:
        return PUBLIC_TYPES
    chosen: set[str] = set()
    for name in text.split(","):
        found = {type_ for type_ in PUBLIC_TYPES if name.strip() and type_.startswith(name.strip())}
        if not found:
            detail = f'types: "{name.strip()[:100]}" begins no event type; known: {", ".join(PUBLIC_TYPES)}'
            raise Reject("invalid_field", 422, detail, field="types")
        chosen |= found
    return sorted(chosen)


def _item(row: Row) -> dict[str, object]:
    """The event as structured CloudEvents JSON; its body stays as it was written."""
    attributes = {
        name.removeprefix("ce_"): text
        for name, text in row.headers.items()
        if name.startswith("ce_") and name not in _INTERNAL
    }
    return {**attributes, "datacontenttype": "application/json", "data": orjson.Fragment(row.value)}


def _frame(reader: Reader, row: Row) -> bytes:
    id_ = reader.cursor_at(row.position, row.created_at.timestamp()).encode()
    name = row.headers["ce_type"].encode()
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_, name, orjson.dumps(_item(row)))


def _id_alone(cursor: str) -> bytes:
    """Moves the client's Last-Event-ID without an event (WHATWG HTML, §9.2.6)."""
    return b"id: %b\n\n" % cursor.encode()


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
