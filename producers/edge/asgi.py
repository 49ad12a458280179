"""The little of ASGI that the hot routes need: one answer in two messages, headers as they came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

JSON: RawHeaders = [(b"content-type", b"application/json")]


class Disconnected(Exception):  # noqa: N818 - a fact
    """The client has gone: nobody is there to answer."""


async def respond(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    """One whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
