"""Dead letters for operators, and for admins those of their own tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from producers.edge.caller import Asking, Caller
from producers.edge.cursors import DEFAULT_LIMIT, Cursor, Limit, clamped, decode_cursor, encode_cursor, invalid_cursor
from producers.edge.openapi import takes_json
from producers.edge.problems import Unavailable
from producers.edge.reads.bounded import within
from producers.edge.requests import JsonBodies
from producers.edge.responses import json_response
from producers.replay.dead_letters import DeadLetterDesk, Order, Wanted, order_of
from schemas.dead_letters import DeadLetterPosition, DeadLetterView, Redriven
from schemas.errors import Reject, Retry
from schemas.http import Page
from storage.postgres.dead_letter_actions import Place

ResultT = TypeVar("ResultT")

KIND = "dead-letters"
ANSWER_WITHIN_S = 30.0

Since = Annotated[datetime | None, Query(description="Only those that died at or after this time.")]
Type = Annotated[str | None, Query(alias="type", description="The record's `ce_type`, or the beginning of it.")]


class DeadLetterRoutes:
    """`/admin/dead-letters`. The log itself is read, so one request at a time is served, and others wait."""

    def __init__(self, desk: DeadLetterDesk, *, json: JsonBodies) -> None:
        self._desk = desk
        self._json = json
        self._reading = asyncio.Lock()

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes."""
        add = router.add_api_route
        add("/admin/dead-letters", self.browse, methods=["GET"], response_model=Page[DeadLetterView])
        add(
            "/admin/dead-letters/redrive",
            self.redrive,
            methods=["POST"],
            response_model=Redriven,
            openapi_extra=takes_json(DeadLetterPosition),
        )

    async def browse(
        self,
        caller: Asking,
        *,
        topic: str | None = None,
        reason: str | None = None,
        kind: Type = None,
        id: str | None = None,  # noqa: A002 - the query's name
        since: Since = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Response:
        """List dead letters, newest first."""
        tenant_id = _reach(caller)
        wanted = Wanted(
            topic=topic,
            reason=reason,
            type=kind,
            id=id,
            since=since.replace(tzinfo=since.tzinfo or UTC) if since is not None else None,
            tenant_id=tenant_id,
            before=_before(tenant_id, cursor),
        )
        found = await self._in_time(self._desk.browse(wanted, limit=clamped(limit)))
        items = list(found.letters)
        next_cursor = None
        if found.n_matched > len(items):
            at, *place = order_of(items[-1])
            next_cursor = encode_cursor(KIND, tenant_id, at.isoformat(), *place)
        return json_response(Page[DeadLetterView](items=items, next_cursor=next_cursor))

    async def redrive(self, request: Request, caller: Asking) -> Response:
        """Publish a dead letter's record again, as it was; the second time changes nothing and is answered alike."""
        tenant_id = _reach(caller)
        sent = await self._json.read(request, caller, DeadLetterPosition)
        place = Place(sent.topic.removesuffix(".dlq"), sent.partition, sent.offset)
        return json_response(await self._in_time(self._redrive(place, tenant_id, f"user:{caller.principal.user_id}")))

    async def _redrive(self, place: Place, tenant_id: UUID | None, by: str) -> Redriven:
        await self._desk.read(place, tenant_id=tenant_id)
        async with aclosing(self._desk.redrive([place], by=by)) as redriven:
            done = await anext(redriven)
        return Redriven(letter=done.letter, is_new=done.is_new)

    async def _in_time(self, work: Coroutine[object, object, ResultT]) -> ResultT:
        async with self._reading:
            try:
                return await within(ANSWER_WITHIN_S, work)
            except (Retry, TimeoutError) as error:
                raise Unavailable("dead_letters_unavailable", "the log does not answer; repeat the request") from error


def _reach(caller: Caller) -> UUID | None:
    """Whose letters may be seen; None: those of every tenant. Raises: Reject 403."""
    who = caller.principal
    if who.role == "operator":
        return None
    if who.role == "admin":
        return who.tenant_id
    raise Reject("forbidden", 403, "only an admin or an operator may see dead letters")


def _before(tenant_id: UUID | None, cursor: str | None) -> Order | None:
    if cursor is None:
        return None
    match decode_cursor(KIND, tenant_id, cursor):
        case [str() as text, str() as topic, int() as partition, int() as offset]:
            try:
                at = datetime.fromisoformat(text)
            except ValueError:
                raise invalid_cursor() from None
            if at.tzinfo is not None:
                return (at, topic, partition, offset)
    raise invalid_cursor()
