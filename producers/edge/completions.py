"""Runs: read one, follow one, cancel one."""

from __future__ import annotations

import asyncio
from uuid import UUID

from fastapi import APIRouter, Response

from producers.edge.caller import Asking
from producers.edge.effects import Effect, Effects, Identity
from producers.edge.event_tail import EventTail, Heard
from producers.edge.problems import not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.completions import TERMINAL, completion_by_id, session_of_completion
from producers.edge.requests import path_id, preference
from producers.edge.responses import json_response
from schemas.commands import CancelCompletion
from schemas.events import (
    CancelRequested,
    CompletionCancelled,
    CompletionCompleted,
    CompletionEnded,
    CompletionFailed,
    CompletionStatus,
)
from schemas.http import CompletionState, CompletionView
from schemas.topics import CHAT_COMMANDS


class CompletionRoutes:
    """`/completions/{id}`."""

    def __init__(self, effects: Effects, events: EventTail, reads: Reads, *, wait_s: float) -> None:
        self._effects = effects
        self._events = events
        self._reads = reads
        self._wait_s = wait_s

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes. The gate answers the stream itself: it stands here for the document alone."""
        add = router.add_api_route
        add("/completions/{completion_id}", self.get, methods=["GET"], response_model=CompletionView)
        add(
            "/completions/{completion_id}/stream",
            _answered_by_the_gate,
            methods=["GET"],
            name="stream_completion",
            summary="Follow a completion as server-sent events, from Last-Event-ID on",
            responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
            response_class=Response,
        )
        add(
            "/completions/{completion_id}/cancel",
            self.cancel,
            methods=["POST"],
            response_model=CompletionState,
            responses={202: {"model": CompletionState}},
        )

    async def get(self, caller: Asking, completion_id: str) -> Response:
        """Read a run; `content` is what is written so far."""
        who, id_ = caller.principal, path_id(completion_id, "completion")
        found = await self._reads(who.tenant_id, lambda work: completion_by_id(work, who, id_))
        if found is None:
            raise not_found("completion")
        return json_response(found)

    async def cancel(self, caller: Asking, completion_id: str) -> Response:
        """End a run; its partial text is kept. Waits for the end: 200 with the terminal status, else 202."""
        who, id_ = caller.principal, path_id(completion_id, "completion")
        identity, wanted = Identity.of(caller), preference(caller.headers, self._wait_s)
        session_id = await self._reads(who.tenant_id, lambda work: session_of_completion(work, who, id_))
        if session_id is None:
            raise not_found("completion")
        body = CancelCompletion(session_id=session_id, completion_id=id_)
        command = self._effects.command(caller, body, identity, None)
        until = asyncio.get_running_loop().time() + wanted.wait_s
        with self._effects.listening(command) as effect, self._events.about(session_id) as session:
            await self._effects.publish(CHAT_COMMANDS, command)
            status = await _decided(effect, id_, until)
            if status == "cancelling" and wanted.wait_s > 0:
                # It may have ended already: then its event has passed, or is an answer to an earlier request.
                known = await self._reads(who.tenant_id, lambda work: completion_by_id(work, who, id_))
                is_over = known is not None and known.status in TERMINAL
                status = known.status if known and is_over else await _ended(session, id_, until) or status
        state = CompletionState(id=id_, status=status or "accepted")
        is_over = status not in {None, "cancelling"}
        return json_response(state, 200 if is_over else 202, preference_applied=wanted.applied)


async def _decided(effect: Effect, completion_id: UUID, until: float) -> CompletionStatus | None:
    """What the transcript has made of the cancel; None if the wait ran out."""
    loop = asyncio.get_running_loop()
    while True:
        body = await effect.next(wait_s=until - loop.time())
        if body is None:
            return None
        if isinstance(body, CancelRequested) and body.completion_id == completion_id:
            return body.status
        if isinstance(body, CompletionCancelled) and body.completion_id == completion_id:
            return "cancelled"


async def _ended(session: Heard, completion_id: UUID, until: float) -> CompletionStatus | None:
    """How the completion has ended; None if the wait ran out."""
    loop = asyncio.get_running_loop()
    while True:
        event = await session.next(timeout_s=until - loop.time())
        if event is None:
            return None
        match event.body:
            case CompletionEnded(completion_id=ended) if ended != completion_id:
                continue
            case CompletionCancelled():
                return "cancelled"
            case CompletionCompleted():
                return "complete"
            case CompletionFailed():
                return "failed"


async def _answered_by_the_gate(completion_id: str) -> None:
    raise RuntimeError("the gate answers this route")
