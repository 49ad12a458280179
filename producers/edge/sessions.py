"""Chats: open, list, read, rename, mark, delete."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from producers.edge.caller import Asking, Caller
from producers.edge.cursors import DEFAULT_LIMIT, Cursor, Limit, after_time, clamped, encode_cursor
from producers.edge.effects import Effects, Identity
from producers.edge.openapi import takes_json
from producers.edge.problems import not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.sessions import list_sessions, session_by_id
from producers.edge.requests import JsonBodies, path_id, preference
from producers.edge.responses import json_response, no_content
from schemas.commands import CreateSession, DeleteSession, RenameSession, SessionCommand, SetFavorite
from schemas.errors import Reject
from schemas.events import FavoriteSet, SessionCreated, SessionDeleted, SessionRenamed
from schemas.http import Accepted, NewSession, Page, RequestBody, SessionFavorite, SessionName, SessionView
from schemas.records import Body
from schemas.topics import CHAT_COMMANDS


class SessionRoutes:
    """`/sessions`. They are private to their user; an `admin` may read those of the tenant."""

    def __init__(self, effects: Effects, reads: Reads, *, wait_s: float, json: JsonBodies) -> None:
        self._effects = effects
        self._reads = reads
        self._wait_s = wait_s
        self._json = json

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes."""
        accepted: dict[int | str, dict[str, Any]] = {202: {"model": Accepted}}
        add = router.add_api_route
        add(
            "/sessions",
            self.create,
            methods=["POST"],
            status_code=201,
            response_model=SessionView,
            responses=accepted,
            openapi_extra=takes_json(NewSession, required=False),
        )
        add("/sessions", self.browse, methods=["GET"], response_model=Page[SessionView])
        add("/sessions/{session_id}", self.get, methods=["GET"], response_model=SessionView)
        for path, change, body in (
            ("/sessions/{session_id}", self.rename, SessionName),
            ("/sessions/{session_id}/favorite", self.mark, SessionFavorite),
        ):
            add(
                path,
                change,
                methods=["PATCH"],
                response_model=SessionView,
                responses=accepted,
                openapi_extra=takes_json(body),
            )
        add("/sessions/{session_id}", self.delete, methods=["DELETE"], status_code=204, responses=accepted)

    async def create(self, request: Request, caller: Asking) -> Response:
        """Open a chat."""
        sent = await self._json.read(request, caller, NewSession, may_be_empty=True)
        identity = Identity.of(caller)
        command = CreateSession(session_id=identity.new("session"), name=sent.name, profile_id=sent.profile_id)
        found, applied = await self._perform(caller, command, identity, sent, SessionCreated)
        event = found.get(SessionCreated.ce_type)
        if not isinstance(event, SessionCreated):
            return json_response(Accepted(id=command.session_id), 202, preference_applied=applied)
        view = SessionView(
            id=event.session_id,
            user_id=caller.principal.user_id,
            name=event.name,
            profile_id=event.profile_id,
            is_favorite=False,
            created_at=event.created_at,
            updated_at=event.created_at,
        )
        return json_response(view, 201, preference_applied=applied)

    async def browse(
        self,
        caller: Asking,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        favorite: Annotated[bool | None, Query(description="Only favourites, or only others.")] = None,
        user_id: Annotated[UUID | None, Query(description="Another user's, for an `admin`.")] = None,
    ) -> Response:
        """List your chats, newest first."""
        who = caller.principal
        if user_id is not None and not who.may_read(who.tenant_id, user_id):
            raise Reject("forbidden", 403, "only an admin may list another user's sessions", field="user_id")
        after, size = after_time("sessions", who.tenant_id, cursor), clamped(limit)
        found = await self._reads(
            who.tenant_id,
            lambda work: list_sessions(
                work, who, user_id=user_id or who.user_id, favorite=favorite, after=after, limit=size + 1
            ),
        )
        items, last = list(found[:size]), found[size - 1] if len(found) > size else None
        next_cursor = encode_cursor("sessions", who.tenant_id, last.created_at.isoformat(), last.id) if last else None
        return json_response(Page[SessionView](items=items, next_cursor=next_cursor))

    async def get(self, caller: Asking, session_id: str) -> Response:
        """Read a chat."""
        return json_response(await self._session(caller, path_id(session_id, "session")))

    async def rename(self, request: Request, caller: Asking, session_id: str) -> Response:
        """Rename a chat."""
        id_ = path_id(session_id, "session")
        sent = await self._json.read(request, caller, SessionName)
        return await self._change(caller, RenameSession(session_id=id_, name=sent.name), sent, SessionRenamed)

    async def mark(self, request: Request, caller: Asking, session_id: str) -> Response:
        """Mark a chat as favourite, or unmark it."""
        id_ = path_id(session_id, "session")
        sent = await self._json.read(request, caller, SessionFavorite)
        return await self._change(caller, SetFavorite(session_id=id_, is_favorite=sent.is_favorite), sent, FavoriteSet)

    async def delete(self, caller: Asking, session_id: str) -> Response:
        """Delete a chat; what is being written in it is cancelled."""
        command = DeleteSession(session_id=path_id(session_id, "session"))
        found, applied = await self._perform(caller, command, Identity.of(caller), None, SessionDeleted)
        if not found:
            return json_response(Accepted(id=command.session_id), 202, preference_applied=applied)
        return no_content()

    async def _change(
        self, caller: Caller, command: SessionCommand, sent: RequestBody, awaited: type[Body]
    ) -> Response:
        found, applied = await self._perform(caller, command, Identity.of(caller), sent, awaited)
        if not found:
            return json_response(Accepted(id=command.session_id), 202, preference_applied=applied)
        return json_response(await self._session(caller, command.session_id), preference_applied=applied)

    async def _perform(
        self,
        caller: Caller,
        command: SessionCommand,
        identity: Identity,
        sent: RequestBody | None,
        awaited: type[Body],
    ) -> tuple[dict[str, Body], str | None]:
        wanted = preference(caller.headers, self._wait_s)
        envelope = self._effects.command(caller, command, identity, sent)
        found = await self._effects.perform(CHAT_COMMANDS, envelope, awaited, wait_s=wanted.wait_s)
        return found, wanted.applied

    async def _session(self, caller: Caller, session_id: UUID) -> SessionView:
        who = caller.principal
        found = await self._reads(who.tenant_id, lambda work: session_by_id(work, who, session_id))
        if found is None:
            raise not_found("session")
        return found
