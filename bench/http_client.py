"""A cheap HTTP/1.1 client for load: one socket, requests as bytes, no parsing that is not needed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._on_line: Callable[[bytes], bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._on_line is not None:
            self._take_lines(data)
            return
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0 or self._answered is None:
            return
        match = _LENGTH.search(self._data, 0, head_end + 2)
        end = head_end + 4 + (int(match[1]) if match else 0)
        if len(self._data) >= end:
            body = self._data[head_end + 4 : end]
            status = int(self._data[9:12])
            self._data = self._data[end:]
            self._finish((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError(f"closed by the server: {exc}"))

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of an answer that has a content-length."""
        return await self._send(raw)

    async def lines(self, raw: bytes, on_line: Callable[[bytes], bool]) -> None:
        """Hands every line of a streamed answer over, until `on_line` answers True. The frame of chunks shows."""
        self._on_line = on_line
        await self._send(raw)

    def close(self) -> None:
        """Ends the connection."""
        self._answered = None
        if self._transport is not None:
            self._transport.close()

    async def _send(self, raw: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise ConnectionError("not connected")
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answered

    def _take_lines(self, data: bytes) -> None:
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            if self._on_line is not None and self._on_line(line):
                self._finish((200, b""))
                return

    def _finish(self, answer: tuple[int, bytes]) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)


async def connect(host: str, port: int) -> Connection:
    """An open connection."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection


def post(path: str, body: bytes, key: str, *headers: str) -> bytes:
    """A POST with a JSON body, as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, key: str, *headers: str) -> bytes:
    """A GET, as bytes."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
