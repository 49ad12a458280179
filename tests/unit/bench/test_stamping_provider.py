"""The provider whose tokens are times, read by the client that measures them."""

from __future__ import annotations

import asyncio

from bench.http_client import connect, post
from bench.stamping_provider import STAMP, Provider, now_us


async def test_every_token_is_the_time_at_which_it_was_sent() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    began = now_us()
    lines: list[bytes] = []

    def line(one: bytes) -> bool:
        lines.append(one)
        return one.startswith(b"data: [DONE]")

    async with server:
        connection = await connect(*server.sockets[0].getsockname()[:2])
        asked = b'{"messages": [{"role": "user", "content": "rate=200 n=5"}], "stream": true}'
        async with asyncio.timeout(10):
            await connection.lines(post("/v1/chat/completions", asked, "key"), line)
        connection.close()
    stamps = [int(stamp) for one in lines for stamp in STAMP.findall(one)]
    assert len(stamps) == 5
    assert stamps == sorted(stamps)
    assert began <= stamps[0] <= stamps[-1] <= now_us()
    assert stamps[-1] - stamps[0] >= 15_000
