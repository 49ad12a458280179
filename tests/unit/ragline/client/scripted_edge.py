"""An edge that follows a script: what it streams, where it cuts, what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SESSION = "00000000-0000-7000-8000-000000000001"
COMPLETION = "00000000-0000-7000-8000-000000000002"
DOCUMENT = "00000000-0000-7000-8000-000000000003"
OTHER_DOCUMENT = "00000000-0000-7000-8000-000000000004"
NOW = "2026-01-01T00:00:00Z"


def document(**changes: Any) -> dict[str, Any]:
    """A `DocumentView`, with a field that this client does not know."""
    view = {"id": DOCUMENT, "name": "paper.pdf", "type": "document", "tags": [], "status": "indexed", "size_bytes": 1}
    view |= {"sha256": "0" * 64, "n_pages": 14, "n_passages": 40, "created_at": NOW, "updated_at": NOW, "new": 1}
    return view | {"progress": {"status": view["status"], "step": "done"}} | changes


def completion(**changes: Any) -> dict[str, Any]:
    """A `CompletionView`."""
    view = {"id": COMPLETION, "session_id": SESSION, "message_id": SESSION, "status": "complete", "content": "größer"}
    view |= {"model": "fast", "stream_url": f"/api/v1/completions/{COMPLETION}/stream", "created_at": NOW}
    return view | changes


def delta(start: int, text: str, epoch: int = 0) -> bytes:
    """As the edge frames it."""
    end = start + len(text)
    data = f'{{"attempt":1,"start":{start},"end":{end},"text":"{text}"}}'
    return f"id: {epoch:06d}.{end:010d}.1\nevent: delta\ndata: {data}\n\n".encode()


def terminal(name: str = "completed") -> bytes:
    """The end."""
    return f"id: 000000.0000000099.2\nevent: {name}\ndata: {{}}\n\n".encode()


@dataclass
class ScriptedEdge:
    """`streams`: what each connection gets (bytes), in turn; `answers`: (status, JSON) per `METHOD path`, in turn."""

    streams: list[bytes | int] = field(default_factory=list)
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        usual: dict[str, list[tuple[int, Any]]] = {
            "POST /api/v1/sessions": [(201, {"id": SESSION, "name": None})],
            f"POST /api/v1/sessions/{SESSION}/messages": [
                (202, {"message": {}, "completion": {"id": COMPLETION, "stream_url": completion()["stream_url"]}})
            ],
            f"GET /api/v1/completions/{COMPLETION}": [(200, completion())],
            "GET /api/v1/documents": [(200, {"items": [], "next_cursor": None})],
            "POST /api/v1/documents": [(202, document(status="queued"))],
            f"GET /api/v1/documents/{DOCUMENT}": [(200, document())],
        }
        self.answers = usual | self.answers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        await request.read()
        what = f"{request.method} {request.path}"
        self.requests.append((what, dict(request.headers)))
        if request.path.endswith(("/stream", "/events")):
            return await self._stream(request)
        script = self.answers.get(what) or [(404, _problem("not_found", what))]
        status, body = script.pop(0) if len(script) > 1 else script[0]
        return web.json_response(body, status=status)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        piece = self.streams.pop(0)
        if isinstance(piece, int):
            return web.json_response(_problem("unavailable", "away"), status=piece)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(piece)
        if not piece.endswith(terminal()) and request.transport is not None:
            request.transport.close()
        return response

    def sent(self, what: str, header: str) -> list[str | None]:
        """The header of each such request."""
        return [headers.get(header) for name, headers in self.requests if name == what]


def _problem(code: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": "x", "status": 0, "detail": detail, "code": code, "request_id": "x"} | more


problem = _problem


@asynccontextmanager
async def serving(edge: ScriptedEdge, port: int = 0) -> AsyncIterator[ScriptedEdge]:
    """The edge listens on a port of its own."""
    app = web.Application()
    handler: Callable[[web.Request], Any] = edge.handle
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    edge.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield edge
    finally:
        await runner.cleanup()
