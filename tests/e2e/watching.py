"""Slow answers and the readers who watch them being written, each over one connection for as long as that lasts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.client import Reach, read_stream
from tests.chaos.reading import Reading
from tests.e2e.conversing import ANSWER
from tests.e2e.striking import until, urls
from tests.stack import DevStack

_REQUEST_S = aiohttp.ClientTimeout(30.0)


@dataclass
class Watched:
    """An answer, and what its reader has of it."""

    completion_id: str
    stream_url: str
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Posted:
    """How a POST of a message was answered."""

    status: int
    took_s: float
    retry_after: str | None
    body: dict[str, dict[str, str]]


class Watchers:
    """Those who post by plain HTTP, and read. Nothing is repeated: what they are told is what the server says."""

    def __init__(self, session: aiohttp.ClientSession, edges: list[str]) -> None:
        self._session = session
        self.edges = edges
        self.watched: list[Watched] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def new_session(self) -> str:
        """Its id."""
        async with self._session.post(f"{self.edges[0]}/api/v1/sessions", json={}, timeout=_REQUEST_S) as response:
            assert response.status == 201, await response.text()
            return str((await response.json())["id"])

    async def post(self, session_id: str, content: str, *, model: str = "quick", edge: int = 0) -> Posted:
        """With `Prefer: respond-async`: the answer does not wait for the effect."""
        began = time.monotonic()
        async with self._session.post(
            f"{self.edges[edge]}/api/v1/sessions/{session_id}/messages",
            json={"content": content, "model": model},
            headers={"Prefer": "respond-async"},
            timeout=_REQUEST_S,
        ) as response:
            body = await response.json(content_type=None)
            took_s = time.monotonic() - began
            return Posted(response.status, took_s, response.headers.get("Retry-After"), body)

    async def messages(self, session_id: str) -> list[tuple[str, str, str]]:
        """Sender, status and text of each, oldest first; none while they cannot be asked for."""
        url = f"{self.edges[0]}/api/v1/sessions/{session_id}/messages?limit=200"
        async with self._session.get(url, timeout=_REQUEST_S) as response:
            items = (await response.json())["items"] if response.status == 200 else []
        return [(item["sender"], item["status"], item["content"]) for item in items]

    async def watch(self, n: int, *, tokens_per_s: float) -> None:
        """Returns when so many answers are being written, and read at one edge or the other."""
        for number in range(n):
            asked = f"Tell me of it. [[tokens_per_s={tokens_per_s}]]"
            posted = await self.post(await self.new_session(), asked, model="slow", edge=number % len(self.edges))
            assert posted.status == 202, posted
            completion = posted.body["completion"]
            watched = Watched(completion["id"], completion["stream_url"])
            self.watched.append(watched)
            self._tasks.append(asyncio.create_task(self.read(watched, edge=number % len(self.edges))))
        await until(lambda: all(len(watched.reading.text) > 20 for watched in self.watched), within_s=30.0)

    async def read(self, watched: Watched, *, edge: int) -> None:
        """To its end, at this edge. Raises: GaveUpError."""
        reach = Reach(self._session, [self.edges[edge]], time.monotonic, silence_s=60.0)
        await read_stream(reach, random.Random(edge), watched.reading, watched.stream_url, cuts=False)

    async def end(self) -> None:
        """Holds after: each has read its answer, every character once, and was never cut off."""
        await asyncio.gather(*self._tasks)
        for watched in self.watched:
            reading = watched.reading
            story = "\n".join(reading.history.text())
            assert (reading.faults, reading.errors, reading.terminal) == ([], [], "complete"), story
            assert (reading.text, reading.n_resets, reading.n_connections) == (ANSWER, 0, 1), story

    def abandon(self) -> None:
        """Nobody reads on."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def watching(stack: DevStack) -> AsyncIterator[Watchers]:
    """Watchers at all edges."""
    async with aiohttp.ClientSession(headers=stack.headers) as session:
        watchers = Watchers(session, urls(stack))
        try:
            yield watchers
            await watchers.end()
        finally:
            watchers.abandon()
