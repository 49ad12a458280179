"""One question, its answer as it is written, and what it rests on."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel

from ragline.client.connection import Connection
from ragline.client.errors import CutError, RefusedError
from ragline.client.sse import SseEvent
from retrieval.markers import markers
from schemas.events import Citation, TokenUsage
from schemas.http import CompletionView, DocumentView

_TERMINAL = {"completed", "failed", "cancelled"}


class _Opened(BaseModel):
    id: UUID


class _Run(BaseModel):
    id: UUID
    stream_url: str


class _Posted(BaseModel):
    completion: _Run


@dataclass(frozen=True, slots=True)
class Said:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What was said so far does not count: the answer begins anew."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """A citation with the name of its document and the number that the text gives it."""

    marker: int
    document_id: UUID
    document: str
    page: int | None
    quote: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The finished answer, as the server keeps it; `error` says why it is not complete."""

    session_id: UUID
    completion_id: UUID
    status: str
    text: str
    citations: list[Quoted]
    model: str | None
    usage: TokenUsage | None
    error: str | None


async def ask(
    connection: Connection, question: str, *, session_id: UUID | None = None, model: str | None = None
) -> AsyncIterator[Said | Restarted | Answer]:
    """Posts the question and follows its answer to the end; the last value is the `Answer`. Raises: ClientError."""
    if session_id is None:
        session_id = (await connection.post("/api/v1/sessions", _Opened, key=_key(), body=lambda: {"json": {}})).id
    message = {"content": question} | ({"model": model} if model else {})
    path = f"/api/v1/sessions/{session_id}/messages"
    run = (await connection.post(path, _Posted, key=_key(), body=lambda: {"json": message})).completion
    async for part in follow(connection, run.stream_url):
        yield part
    yield await _answer(connection, session_id, run.id)


async def follow(connection: Connection, stream_url: str) -> AsyncIterator[Said | Restarted]:
    """The answer's text, each character once; ends with the answer. Raises: ClientError."""
    n_read = 0
    async for event in connection.events(stream_url):
        match event.event:
            case "delta":
                start, text = _delta(event)
                if start > n_read:
                    raise CutError(f"the stream lost characters {n_read} to {start}; this is a bug in the server")
                if fresh := text[n_read - start :]:
                    n_read += len(fresh)
                    yield Said(fresh)
            case "reset":
                n_read = 0
                yield Restarted()
            case terminal if terminal in _TERMINAL:
                return
            case _:  # `error` says why this connection ends; the next one goes on
                pass


async def _answer(connection: Connection, session_id: UUID, completion_id: UUID) -> Answer:
    done = await connection.get(f"/api/v1/completions/{completion_id}", CompletionView)
    return Answer(
        session_id=session_id,
        completion_id=completion_id,
        status=done.status,
        text=done.content,
        citations=await _quoted(connection, done.content, done.citations),
        model=done.model,
        usage=done.usage,
        error=done.error.message if done.error is not None else None,
    )


async def _quoted(connection: Connection, text: str, citations: list[Citation]) -> list[Quoted]:
    names: dict[UUID, str] = {}
    for citation in citations:
        if citation.document_id not in names:
            names[citation.document_id] = await _name(connection, citation.document_id)
    numbers = numbers_of(text, len(citations))
    return [
        Quoted(number, c.document_id, names[c.document_id], c.page, c.quote)
        for number, c in zip(numbers, citations, strict=True)
    ]


def numbers_of(text: str, n_citations: int) -> list[int]:
    """The numbers by which the text calls its citations: they stand in the order of first mention.

    1, 2, … where the text calls none of them so, or names others too.
    """
    mentioned = list(dict.fromkeys(number for marker in markers(text) for number in marker.numbers))
    return mentioned if len(mentioned) == n_citations else list(range(1, n_citations + 1))


async def _name(connection: Connection, document_id: UUID) -> str:
    try:
        return (await connection.get(f"/api/v1/documents/{document_id}", DocumentView)).name
    except RefusedError:  # deleted since
        return str(document_id)


def _delta(event: SseEvent) -> tuple[int, str]:
    try:
        delta = json.loads(event.data)
        return int(delta["start"]), str(delta["text"])
    except (ValueError, KeyError, TypeError):
        raise CutError(f"the stream holds a delta that is none: {event.data[:100]}") from None


def _key() -> str:
    return str(uuid.uuid4())
