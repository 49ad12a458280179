"""Clients as the documentation has them (`ragline/client`), busy until told to stop, and what they lived through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from pydantic import BaseModel

from ragline.client.answers import Answer, Restarted, Said, ask
from ragline.client.connection import Connection
from ragline.client.target import Target
from ragline.client.uploads import upload
from tests.chaos.checks import first_difference

ANSWER = " ".join(f"{word}{number}" for number in range(20) for word in ("größer", "추적", "😀👩‍👩‍👧", "[1]", "ﬁn"))
TOKENS_PER_S = 40.0
SHORT_ANSWER = "Yes."
PATIENCE_S = 60.0


class _Message(BaseModel):
    sender: str
    status: str
    content: str


class _Messages(BaseModel):
    items: list[_Message]


class _Id(BaseModel):
    id: UUID


class _Posted(BaseModel):
    message: _Id


@dataclass
class Lived:
    """What the clients saw. A pause is the longest silence within one answer; a move, to go on at another edge."""

    n_answers: int = 0
    n_uploads: int = 0
    n_moves: int = 0
    pauses_s: list[float] = field(default_factory=list)
    posts_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.n_answers} answers, longest pauses {_shown(self.pauses_s)}; {len(self.posts_s)} posts,"
            f" {_shown(self.posts_s)}; {self.n_uploads} uploads; {self.n_moves} times to another edge"
        )


class Clients:
    """Some that ask and read, one that only posts, some that upload. Any error that one sees is raised by `stop`."""

    def __init__(self, urls: Sequence[str], api_key: str, folder: Path) -> None:
        self.lived = Lived()
        self._urls = list(urls)
        self._api_key = api_key
        self._folder = folder
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def connected(self, n: int = 0) -> AsyncIterator[Connection]:
        """To all edges, beginning at one or the other."""
        urls = (*self._urls[n % len(self._urls) :], *self._urls[: n % len(self._urls)])
        async with Connection(Target(urls, self._api_key), patience_s=PATIENCE_S) as connection:
            yield connection

    def start(self, *, n_asking: int = 4, n_uploading: int = 1) -> None:
        """They begin."""
        works = [self._ask_on(n) for n in range(n_asking)]
        works += [self._post_on(), *(self._upload_on(n) for n in range(n_uploading))]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> Lived:
        """Each finishes what it does. Holds after: nothing was lost or said twice."""
        self._over.set()
        await asyncio.gather(*self._tasks)
        return self.lived

    async def abandon(self) -> None:
        """Ends them, whatever they do."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answers(self, n: int) -> None:
        """Returns when so many more answers are complete. Raises: what a client has seen."""
        wanted = self.lived.n_answers + n
        while self.lived.n_answers < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    async def post_at_once(self, n: int, edge: int, then: Callable[[], None]) -> None:
        """Some of `n` posts are on their way to the edge when `then` runs. Holds after: each stands once."""
        asked = [f"Post {k} of {uuid4()}" for k in range(n)]
        left, answered, is_half = iter(asked), list[str](), asyncio.Event()

        async def post_on(connection: Connection, session_id: UUID) -> None:
            for content in left:
                await _post(connection, session_id, content)
                answered.append(content)
                if len(answered) == n // 2:
                    is_half.set()

        async with self.connected(edge) as connection:
            session_id = await _new_session(connection)
            posting = [asyncio.create_task(post_on(connection, session_id)) for _ in range(8)]
            await is_half.wait()
            then()
            await asyncio.gather(*posting)
            stored = await _stored(connection, session_id)
        assert sorted(stored[::2]) == sorted(asked)
        assert set(stored[1::2]) == {SHORT_ANSWER}

    async def _ask_on(self, n: int) -> None:
        asked: list[str] = []
        session_id = None
        async with self.connected(n) as connection:
            while not self._over.is_set():
                asked.append(f"Question {len(asked)} of {uuid4()}?")
                answer = await self._read(connection, asked[-1], session_id)
                session_id = answer.session_id
            await _check(connection, session_id, asked, ANSWER)
            self.lived.n_moves += connection._turn

    async def _read(self, connection: Connection, question: str, session_id: UUID | None) -> Answer:
        text, said_at, pause_s = "", 0.0, 0.0
        async for part in ask(connection, question, session_id=session_id, model="slow"):
            match part:
                case Said():
                    now = time.monotonic()
                    pause_s = max(pause_s, now - said_at) if said_at else pause_s
                    text, said_at = text + part.text, now
                case Restarted():
                    raise AssertionError("a model that can continue began anew")
                case Answer():
                    assert (part.status, part.error) == ("complete", None)
                    assert text == part.text, f"read, not stored: {first_difference(text, part.text)}"
                    assert text == ANSWER, f"read, not written: {first_difference(text, ANSWER)}"
                    self.lived.pauses_s.append(pause_s)
                    self.lived.n_answers += 1
                    return part
        raise AssertionError("no answer")

    async def _post_on(self) -> None:
        asked: list[str] = []
        async with self.connected() as connection:
            session_id = await _new_session(connection)
            while not self._over.is_set():
                asked.append(f"Post {len(asked)} of {uuid4()}")
                began = time.monotonic()
                await _post(connection, session_id, asked[-1])
                self.lived.posts_s.append(time.monotonic() - began)
                await asyncio.sleep(0.2)
            await _check(connection, session_id, asked, SHORT_ANSWER)

    async def _upload_on(self, n: int) -> None:
        async with self.connected(n) as connection:
            while not self._over.is_set():
                path = self._folder / f"upload-{uuid4()}.txt"
                path.write_text(f"The kettle {path.stem} whistles.\n" * 50)
                found = await upload(connection, path, wait=True, tell=lambda _: None)
                assert (found.status, found.is_new, found.error) == ("indexed", True, None)
                self.lived.n_uploads += 1
                await asyncio.sleep(2.0)  # each is parsed in a process of its own, which costs half a second of a core


async def _new_session(connection: Connection) -> UUID:
    return (await connection.post("/api/v1/sessions", _Id, key=str(uuid4()), body=lambda: {"json": {}})).id


async def _post(connection: Connection, session_id: UUID, content: str) -> None:
    body = {"json": {"content": content, "model": "quick"}}
    await connection.post(f"/api/v1/sessions/{session_id}/messages", _Posted, key=str(uuid4()), body=lambda: body)


async def _check(connection: Connection, session_id: UUID | None, asked: list[str], answer: str) -> None:
    """Every question stands once, in order, with its whole answer."""
    expected = [text for question in asked for text in (question, answer)]
    assert await _stored(connection, session_id) == expected[:200]


async def _stored(connection: Connection, session_id: UUID | None) -> list[str]:
    """What the messages say, when all are complete."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await connection.get(f"/api/v1/sessions/{session_id}/messages?limit=200", _Messages)
            if all(message.status == "complete" for message in found.items):
                return [message.content for message in found.items]
            await asyncio.sleep(0.05)


def _shown(values: list[float]) -> str:
    ordered = sorted(values)
    middle, late = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95))
    return f"p50 {middle:.2f} s, p95 {late:.2f} s, max {ordered[-1]:.2f} s"
