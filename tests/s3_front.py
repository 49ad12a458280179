"""An S3 endpoint before the real one: signs each request anew, remembers it, keeps or breaks promises as told."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

_HANDED_ON = {"content-type", "range", "content-md5", "if-match"}
_CONDITION = "if-none-match"


@dataclass(frozen=True)
class Seen:
    """A request as it came; `size` is that of its body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    size: int


@dataclass
class S3Front:
    """`endpoint` takes path-style requests.

    `conditions`: `kept` lets exactly one of several PUTs with If-None-Match win, which the server behind does not;
    `dropped` writes them all. `n_busy` requests are answered 503; `is_silent`: none is answered at all.
    """

    server: S3Server
    conditions: Literal["kept", "dropped"] = "kept"
    n_busy: int = 0
    is_silent: bool = False
    endpoint: str = ""
    seen: list[Seen] = field(default_factory=list)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hands the request on."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.path, request.query_string, headers, len(body)))
        if self.is_silent:
            await self.ends.wait()
            return web.Response(status=503)
        if self.n_busy:
            self.n_busy -= 1
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        if _CONDITION in headers and self.conditions == "kept":
            async with self._one_at_a_time:
                if (await self._hand_on(request, "HEAD", b"")).status == 200:
                    return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
                return await self._hand_on(request, request.method, body)
        return await self._hand_on(request, request.method, body)

    async def _hand_on(self, request: web.Request, method: str, body: bytes) -> web.Response:
        url = self.server.endpoint + request.raw_path
        kept = {name: value for name, value in request.headers.items() if name.lower() in _HANDED_ON}
        signed = AWSRequest(method, url, headers=kept, data=body)
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(signed)
        sending = aiohttp.request(
            method,
            URL(url, encoded=True),
            headers=dict(signed.headers.items()),
            data=io.BytesIO(body) if body else None,
            skip_auto_headers=("content-type",),
        )
        async with sending as got:
            dropped = {"content-length", "transfer-encoding", "date", "server", "connection"}
            answered = {name: value for name, value in got.headers.items() if name.lower() not in dropped}
            if method == "HEAD":
                answered["content-length"] = got.headers.get("content-length", "0")
            return web.Response(status=got.status, headers=answered, body=await got.read())


@contextmanager
def s3_front(server: S3Server) -> Iterator[S3Front]:
    """The endpoint, served by a thread of its own for as long as the block runs."""
    front = S3Front(server)
    loop = asyncio.new_event_loop()
    is_up = threading.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=256 << 20)
        app.router.add_route("*", "/{path:.*}", front.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        front.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        is_up.set()
        await front.ends.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(30)
        yield front
    finally:
        loop.call_soon_threadsafe(front.ends.set)
        thread.join()
        loop.close()
