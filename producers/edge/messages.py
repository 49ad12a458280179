"""A user's turn: the hot POST (no PostgreSQL on its path), the list, and the other ways to ask for an answer."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from producers.edge.asgi import Receive, Send, respond
from producers.edge.caller import Asking, Caller
from producers.edge.completion_streams import CompletionStreams
from producers.edge.cursors import DEFAULT_LIMIT, Cursor, Limit, after_position, clamped, encode_cursor
from producers.edge.effects import Effects, Identity
from producers.edge.openapi import takes_json
from producers.edge.problems import not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.messages import active_path, session_of_message
from producers.edge.requests import JsonBodies, Preference, path_id, preference, read_json
from producers.edge.responses import json_response, raw_json_response
from schemas.commands import EditMessage, Generation, PostMessage, RegenerateMessage, ResumeMessage, SessionCommand
from schemas.errors import Reject
from schemas.events import CompletionRequested, MessagePosted
from schemas.http import (
    AnswerOptions,
    CompletionRef,
    MessageEdit,
    MessageView,
    NewMessage,
    Page,
    PostedMessage,
    RequestBody,
    RequestedCompletion,
)
from schemas.records import Body
from schemas.topics import CHAT_COMMANDS

EVENT_STREAM = b"text/event-stream"
_JSON_HEADER = (b"content-type", b"application/json")
_AS_CONFIGURED = Generation()
_REST_OF_A_USERS_MESSAGE = dict.fromkeys(
    ("partial_content", "error_code", "error_message", "context", "model", "usage")
) | {"citations": []}


class MessageRoutes:
    """`/sessions/{id}/messages` and what else makes an answer."""

    def __init__(
        self,
        effects: Effects,
        reads: Reads,
        streams: CompletionStreams,
        *,
        wait_s: float,
        json: JsonBodies,
        model_names: Collection[str],
    ) -> None:
        self._effects = effects
        self._reads = reads
        self._streams = streams
        self._wait_s = wait_s
        self._json = json
        self._model_names = model_names

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes. The gate answers the first itself: it stands here for the document alone."""
        add = router.add_api_route
        add(
            "/sessions/{session_id}/messages",
            _answered_by_the_gate,
            methods=["POST"],
            status_code=202,
            name="post_message",
            summary="Post a message; with `Accept: text/event-stream` the same request streams the answer",
            response_model=PostedMessage,
            openapi_extra=takes_json(NewMessage),
        )
        add("/sessions/{session_id}/messages", self.browse, methods=["GET"], response_model=Page[MessageView])
        add(
            "/messages/{message_id}",
            self.edit,
            methods=["PATCH"],
            status_code=202,
            response_model=PostedMessage,
            openapi_extra=takes_json(MessageEdit),
        )
        add(
            "/messages/{message_id}/regenerate",
            self.regenerate,
            methods=["POST"],
            status_code=202,
            response_model=RequestedCompletion,
            openapi_extra=takes_json(AnswerOptions, required=False),
        )
        add(
            "/sessions/{session_id}/resume",
            self.resume,
            methods=["POST"],
            status_code=202,
            response_model=RequestedCompletion,
        )

    async def post(self, receive: Receive, send: Send, caller: Caller, session_id: str) -> None:
        """Post a message. Raises: Reject; Unavailable; Disconnected."""
        id_ = path_id(session_id, "session")
        sent = await read_json(receive, caller.headers, NewMessage, limit_bytes=self._json.limit_bytes)
        identity = Identity.of(caller)
        body = PostMessage(
            session_id=id_,
            message_id=identity.new("message"),
            ai_message_id=identity.new("ai message"),
            completion_id=identity.new("completion"),
            content=sent.content,
            parent_id=sent.parent_id,
            generation=self._generation(sent),
            if_busy=sent.if_busy,
        )
        command = self._effects.command(caller, body, identity, sent)
        wanted = preference(caller.headers, self._wait_s)
        if EVENT_STREAM in caller.headers.get(b"accept", b""):
            await self._streams.stream_posted(receive, send, caller, command, body, wait_s=wanted.wait_s)
            return
        found = await self._effects.perform(
            CHAT_COMMANDS, command, MessagePosted, CompletionRequested, wait_s=wanted.wait_s
        )
        headers = [_JSON_HEADER]
        if wanted.applied is not None:
            headers.append((b"preference-applied", wanted.applied.encode()))
        await respond(send, 202, posted(body, body.parent_id, found), headers)

    async def browse(
        self, caller: Asking, session_id: str, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response:
        """List the active path, oldest first."""
        who, id_ = caller.principal, path_id(session_id, "session")
        after, size = after_position("messages", id_, cursor), clamped(limit)
        found = await self._reads(who.tenant_id, lambda work: active_path(work, who, id_, after=after, limit=size + 1))
        if found is None:
            raise not_found("session")
        next_cursor = encode_cursor("messages", id_, found[size - 1][0]) if len(found) > size else None
        return json_response(Page[MessageView](items=[view for _, view in found[:size]], next_cursor=next_cursor))

    async def edit(self, request: Request, caller: Asking, message_id: str) -> Response:
        """Word an earlier message anew: a branch beside it, answered anew."""
        id_ = path_id(message_id, "message")
        sent = await self._json.read(request, caller, MessageEdit)
        identity = Identity.of(caller)
        body = EditMessage(
            session_id=await self._session_of(caller, id_),
            edited_id=id_,
            message_id=identity.new("message"),
            ai_message_id=identity.new("ai message"),
            completion_id=identity.new("completion"),
            content=sent.content,
            generation=self._generation(sent),
            if_busy=sent.if_busy,
        )
        found, wanted = await self._perform(caller, body, identity, sent, MessagePosted, CompletionRequested)
        return raw_json_response(posted(body, None, found), 202, preference_applied=wanted.applied)

    async def regenerate(self, request: Request, caller: Asking, message_id: str) -> Response:
        """Ask for another answer beside an earlier one."""
        id_ = path_id(message_id, "message")
        sent = await self._json.read(request, caller, AnswerOptions, may_be_empty=True)
        identity = Identity.of(caller)
        body = RegenerateMessage(
            session_id=await self._session_of(caller, id_),
            regenerated_id=id_,
            ai_message_id=identity.new("ai message"),
            completion_id=identity.new("completion"),
            generation=self._generation(sent),
            if_busy=sent.if_busy,
        )
        found, wanted = await self._perform(caller, body, identity, sent, CompletionRequested)
        ref = completion_ref(body.completion_id, body.ai_message_id, is_known=bool(found))
        return json_response(RequestedCompletion(completion=ref), 202, preference_applied=wanted.applied)

    async def resume(self, caller: Asking, session_id: str) -> Response:
        """Continue the newest answer after it failed or was cancelled; one that is being written is told as it is."""
        id_, identity = path_id(session_id, "session"), Identity.of(caller)
        body = ResumeMessage(session_id=id_, completion_id=identity.new("completion"))
        try:
            found, wanted = await self._perform(caller, body, identity, None, CompletionRequested)
        except Reject as reject:
            if reject.code != "already_running":
                raise
            running, message = UUID(str(reject.extra["completion_id"])), UUID(str(reject.extra["message_id"]))
            ref = completion_ref(running, message, is_known=True)
            return json_response(RequestedCompletion(completion=ref), 202)
        event = found.get(CompletionRequested.ce_type)
        message_id = event.message_id if isinstance(event, CompletionRequested) else None
        ref = completion_ref(body.completion_id, message_id, is_known=bool(found))
        return json_response(RequestedCompletion(completion=ref), 202, preference_applied=wanted.applied)

    async def _session_of(self, caller: Caller, message_id: UUID) -> UUID:
        who = caller.principal
        found = await self._reads(who.tenant_id, lambda work: session_of_message(work, who, message_id))
        if found is None:
            raise not_found("message")
        return found

    async def _perform(
        self,
        caller: Caller,
        body: SessionCommand,
        identity: Identity,
        sent: RequestBody | None,
        *awaited: type[Body],
    ) -> tuple[dict[str, Body], Preference]:
        wanted = preference(caller.headers, self._wait_s)
        command = self._effects.command(caller, body, identity, sent)
        return await self._effects.perform(CHAT_COMMANDS, command, *awaited, wait_s=wanted.wait_s), wanted

    def _generation(self, sent: AnswerOptions) -> Generation:
        """Raises: Reject 422 for a model that nobody has configured."""
        if sent.model is not None and sent.model not in self._model_names:
            known = ", ".join(self._model_names) or "none"
            raise Reject(
                "unknown_model",
                422,
                f'model "{sent.model}" is not configured; known: {known}',
                field="model",
                known=known,
            )
        if sent.model_fields_set.isdisjoint(Generation.model_fields):
            return _AS_CONFIGURED
        return Generation(
            model=sent.model,
            profile_id=sent.profile_id,
            document_ids=tuple(sent.document_ids) if sent.document_ids is not None else None,
            temperature=sent.temperature,
            max_tokens=sent.max_tokens,
        )


def posted(body: PostMessage | EditMessage, parent_id: UUID | None, found: dict[str, Body]) -> bytes:
    """What is told of a message and its answer, as the JSON of a `PostedMessage`, without the cost of making one.

    The ids are the same whether or not the effect is known already.
    """
    event = found.get(MessagePosted.ce_type)
    if isinstance(event, MessagePosted):
        parent_id, created_at = event.parent_id, event.created_at
    else:
        created_at = datetime.now(UTC)
    completion_id = str(body.completion_id)
    message = {
        "id": body.message_id,
        "session_id": body.session_id,
        "parent_id": parent_id,
        "sender": "user",
        "status": "complete" if found else "accepted",
        "content": body.content,
        "completion_id": completion_id,
        "created_at": created_at,
    }
    completion = {
        "id": completion_id,
        "message_id": body.ai_message_id,
        "status": "pending" if found else "accepted",
        "stream_url": f"/api/v1/completions/{completion_id}/stream",
    }
    return orjson.dumps(
        {"message": _REST_OF_A_USERS_MESSAGE | message, "completion": completion}, str, orjson.OPT_UTC_Z
    )


def completion_ref(completion_id: UUID, message_id: UUID | None, *, is_known: bool) -> CompletionRef:
    """The run, as it is right after it was asked for."""
    return CompletionRef(
        id=completion_id,
        message_id=message_id,
        status="pending" if is_known else "accepted",
        stream_url=f"/api/v1/completions/{completion_id}/stream",
    )


async def _answered_by_the_gate(session_id: str) -> None:
    raise RuntimeError("the gate answers this route")
