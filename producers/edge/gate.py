"""What every request passes: its ids, its caller, the hot routes, and the one rendering of all errors.

Plain ASGI around FastAPI's router, without a middleware: a hot POST costs no more than it must.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from producers.edge.asgi import Disconnected, Message, Receive, Scope, Send, respond
from producers.edge.auth import Authenticator
from producers.edge.caller import SCOPE_KEY, Caller, Trace, trace_of
from producers.edge.completion_streams import CompletionStreams
from producers.edge.messages import MessageRoutes
from producers.edge.problems import as_reject, log_unavailable, not_found, problem_body, problem_headers
from producers.edge.request_metrics import (
    MESSAGES_ROUTE,
    STREAM_ROUTE,
    InFlight,
    begin_trace,
    end_trace,
    now,
    observe,
)
from producers.edge.requests import invalid_field
from schemas.errors import Reject, Retry, Stop
from telemetry.tracing import CURRENT

logger = logging.getLogger(__name__)

_SESSIONS, _MESSAGES = "/api/v1/sessions/", "/messages"
_COMPLETIONS, _STREAM = "/api/v1/completions/", "/stream"

LONG_BODY_BYTES = 64 * 1024
LINGER_S, LINGER_BYTES = 1.0, 64 * 1024 * 1024


class Api(FastAPI):
    """FastAPI without its middlewares: errors are rendered by the gate."""

    def build_middleware_stack(self) -> ASGIApp:
        """What a route needs, and no more."""
        return AsyncExitStackMiddleware(self.router)


@dataclass(slots=True)
class _Exchange:
    """How far one request and its answer are."""

    trace: Trace
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send
    began_s: float = field(default_factory=now)
    answered_s: float = 0.0
    status: int | None = None
    route: str | None = None
    is_read: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the answer has begun."""
        return self.status is not None

    @property
    def has_long_body(self) -> bool:
        """Whether more may be on its way than a connection can swallow unread."""
        length = self.headers.get(b"content-length", b"0")
        return b"transfer-encoding" in self.headers or not length.isdigit() or int(length[:20]) > LONG_BODY_BYTES

    async def counted_receive(self) -> Message:
        """`receive` that notes the body's end."""
        message = await self.receive()
        self.is_read = self.is_read or message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def stamped_send(self, message: Message) -> None:
        """`send` that adds the request's ids."""
        if message["type"] == "http.response.start":
            self.status, self.answered_s = message["status"], now()
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.trace.request_id.encode()),
                (b"traceparent", self.trace.traceparent.encode()),
            ]
        await self.send(message)


class Gate:
    """The edge's ASGI application."""

    def __init__(
        self,
        api: Api,
        auth: Authenticator,
        messages: MessageRoutes,
        streams: CompletionStreams,
        *,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._api = api
        self._auth = auth
        self._messages = messages
        self._streams = streams
        self._on_fatal = on_fatal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            headers: dict[bytes, bytes] = dict(scope["headers"])
            exchange = _Exchange(trace_of(headers), headers, receive, send)
            span = begin_trace(scope, exchange.trace)
            if span is not None:
                exchange.trace = replace(exchange.trace, traceparent=span.traceparent)
            CURRENT.set(exchange.trace.traceparent)
            InFlight.n += 1
            try:
                await self._http(scope, exchange)
            finally:
                InFlight.n -= 1
                observe(scope, exchange.route, exchange.status, (exchange.answered_s or now()) - exchange.began_s)
                end_trace(span, scope, exchange.route, exchange.status)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "there is no WebSocket here yet"})

    async def _http(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._dispatch(scope, exchange)
        except Disconnected:
            return
        except (Reject, Retry) as error:
            await self._refuse(exchange, as_reject(error))
        except RequestValidationError as error:
            await self._refuse(exchange, _invalid(error))
        except HTTPException as error:
            await self._refuse(exchange, _of_router(error), dict(error.headers or {}))
        except Stop as stop:
            self._on_fatal(stop)
            await self._refuse(exchange, log_unavailable())
        except Exception:
            logger.exception("request %s failed", exchange.trace.request_id)
            if exchange.is_answered:
                raise
            await self._refuse(exchange, Reject("internal_error", 500, "the edge failed; the operators can see why"))

    async def _dispatch(self, scope: Scope, exchange: _Exchange) -> None:
        path, method = scope["path"], scope["method"]
        receive = exchange.counted_receive if exchange.has_long_body else exchange.receive
        if path.startswith("/api/"):
            authorization = exchange.headers.get(b"authorization")
            principal = self._auth.known(authorization)
            if principal is None:
                principal = await self._auth.look_up(authorization)
            caller = Caller(principal, exchange.trace, method, path, exchange.headers)
            if method == "POST" and path.startswith(_SESSIONS) and path.endswith(_MESSAGES):
                exchange.route = MESSAGES_ROUTE
                session_id = path[len(_SESSIONS) : -len(_MESSAGES)]
                await self._messages.post(receive, exchange.stamped_send, caller, session_id)
                return
            if method == "GET" and path.startswith(_COMPLETIONS) and path.endswith(_STREAM):
                exchange.route = STREAM_ROUTE
                completion_id = path[len(_COMPLETIONS) : -len(_STREAM)]
                await self._streams.stream(receive, exchange.stamped_send, caller, completion_id)
                return
            scope[SCOPE_KEY] = caller
        await self._api(scope, receive, exchange.stamped_send)

    async def _refuse(self, exchange: _Exchange, reject: Reject, extra: dict[str, str] | None = None) -> None:
        """Answers with the problem, also while the client is still sending."""
        if exchange.is_answered:
            logger.error("request %s failed after its answer began: %s", exchange.trace.request_id, reject)
            raise reject
        headers, body = problem_headers(reject, extra), problem_body(reject, exchange.trace.request_id)
        if exchange.is_read or not exchange.has_long_body:
            await respond(exchange.stamped_send, reject.status, body, headers)
            return
        headers += [(b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        await exchange.stamped_send({"type": "http.response.start", "status": reject.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(exchange)
        await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(exchange: _Exchange) -> None:
    """Reads on for a moment: a connection closed on unread data is reset, and the client may miss the answer."""
    until, size = time.monotonic() + LINGER_S, 0
    while not exchange.is_read and size < LINGER_BYTES:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                message = await exchange.counted_receive()
        except TimeoutError:
            return
        size += len(message.get("body", b""))


def _invalid(error: RequestValidationError) -> Reject:
    """What FastAPI found in path or query: an id that is none names nothing."""
    first = error.errors()[0]
    place, *location = first["loc"]
    if place == "path":
        return not_found("resource")
    return invalid_field(tuple(location), first["type"], first["msg"], first.get("ctx") or {})


def _of_router(error: HTTPException) -> Reject:
    match error.status_code:
        case 404:
            return Reject("not_found", 404, "there is no such address")
        case 405:
            return Reject("method_not_allowed", 405, "this address does not take that method")
    return Reject("bad_request", error.status_code, str(error.detail))


async def _lifespan(receive: Receive, send: Send) -> None:
    """Starting and stopping is the composition root's."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
