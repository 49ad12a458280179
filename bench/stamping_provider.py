"""An OpenAI-compatible model whose every token is the time at which it was sent: `python -m bench.stamping_provider`.

The question says how: `rate=10 n=200` is 200 tokens, 10 a second. All processes of a machine share `CLOCK_MONOTONIC`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from typing import cast

import uvloop

STAMP = re.compile(rb"@(\d{15})")
_ASKED = re.compile(rb"rate=([0-9.]+) n=(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_DELTA = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"stamp",'
    b'"choices":[{"index":0,"delta":{"content":"@%015d "},"finish_reason":null}]}\n\n'
)
_END = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"stamp",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def now_us() -> int:
    """The machine's monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """One connection; its answers keep their own pace."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        match = _LENGTH.search(self._data, 0, head_end + 2) if head_end >= 0 else None
        if match is None or len(self._data) < head_end + 4 + int(match[1]):
            return
        asked = _ASKED.findall(self._data)
        self._data = b""
        rate, n_tokens = (float(asked[-1][0]), int(asked[-1][1])) if asked else (0.0, 1)
        assert self._transport is not None
        self._transport.write(_HEAD)
        loop = asyncio.get_running_loop()
        # streams begin at different moments of the interval, as people do
        begin = loop.time() + (random.random() / rate if rate else 0.0)
        self._next(loop, begin, rate, 0, n_tokens)

    def _next(self, loop: asyncio.AbstractEventLoop, begin: float, rate: float, sent: int, n_tokens: int) -> None:
        while self._transport is not None:
            if sent == n_tokens:
                self._transport.write(chunk(_END) + b"0\r\n\r\n")
                return
            due = begin + sent / rate if rate else 0.0
            if due > loop.time():
                loop.call_at(due, self._next, loop, begin, rate, sent, n_tokens)
                return
            self._transport.write(chunk(_DELTA % now_us()))
            sent += 1


async def main() -> None:
    """Tells its address and serves until it is killed."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/v1"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
