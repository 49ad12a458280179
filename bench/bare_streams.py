"""The peer of *memory*: `python -m bench.bare_streams`, event streams of one ASGI function that begin and stay open."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import uvicorn
import uvloop


async def stream(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI 3: headers, a comment, and nothing until the client is gone."""
    await receive()
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": hb\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def main() -> None:
    """Tells its port and serves until it is killed."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(stream, lifespan="off", log_config=None, access_log=False, backlog=4096)
    serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[listener]))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await serving


if __name__ == "__main__":
    uvloop.run(main())
