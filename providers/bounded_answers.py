"""Answers over httpx that are longer than anything that was asked for: given up, not kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from providers.ports import ProviderError

Hooks = dict[str, list[Callable[..., Awaitable[Any]]]]


def bounds(max_bytes: int) -> Hooks:
    """Event hooks of an `httpx.AsyncClient`: a longer answer, or a compressed one, is a ProviderError."""

    async def ask_plain(request: httpx.Request) -> None:
        request.headers["accept-encoding"] = "identity"

    async def bound(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProviderError("protocol", f"{response.url}: a compressed answer: none is taken", retryable=True)
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Bounded(response.stream, max_bytes=max_bytes, whose=str(response.url))

    return {"request": [ask_plain], "response": [bound]}


class _Bounded(httpx.AsyncByteStream):
    """Another stream, up to a length."""

    def __init__(self, stream: httpx.AsyncByteStream, *, max_bytes: int, whose: str) -> None:
        self._stream = stream
        self._left = max_bytes
        self._told = f"{whose}: an answer of more than {max_bytes >> 20} MiB"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise ProviderError("protocol", self._told, retryable=True)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
