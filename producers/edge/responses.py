"""Answers as the schemas' bodies, encoded once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Response
from pydantic import BaseModel

from producers.edge.asgi import Receive, Scope, Send


def json_response(body: BaseModel, status: int = 200, *, preference_applied: str | None = None) -> Response:
    """The body as JSON."""
    return raw_json_response(body.model_dump_json().encode(), status, preference_applied=preference_applied)


def raw_json_response(body: bytes, status: int, *, preference_applied: str | None = None) -> Response:
    """JSON that stands already."""
    headers = {"preference-applied": preference_applied} if preference_applied is not None else None
    return Response(body, status, headers, media_type="application/json")


def no_content() -> Response:
    """204."""
    return Response(status_code=204)


class AsgiResponse(Response):
    """Hands the connection to `serve`, which answers by itself."""

    def __init__(self, serve: Callable[[Receive, Send], Awaitable[None]]) -> None:
        self._serve = serve
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._serve(receive, send)
