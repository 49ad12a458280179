"""How a document is learnt, as server-sent events: the state as PostgreSQL knows it, then every event of the tail."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

from producers.edge.asgi import Receive, Send
from producers.edge.event_tail import EventTail, Heard
from producers.edge.frames import event
from producers.edge.problems import not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.documents import progress_of
from producers.edge.sse import EventStream, OpenStreams
from schemas.events import (
    DocumentDeleted,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsed,
    DocumentParsing,
    DocumentUploaded,
    PassagesEmbedded,
    RestoreRequested,
)
from schemas.http import DocumentProgress
from schemas.records import Body

KNOWN_WITHIN_S = 5.0

_ORDER = ("accepted", "queued", "parsing", "embedding", "indexing", "indexed", "failed", "deleted")
_TERMINAL = frozenset({"indexed", "failed", "deleted"})


class DocumentEvents:
    """Opens such streams."""

    def __init__(self, events: EventTail, reads: Reads, streams: OpenStreams) -> None:
        self._events = events
        self._reads = reads
        self._streams = streams

    async def begin(self, tenant_id: UUID, document_id: UUID) -> Following:
        """Listens and reads the state; a document that is not known yet is awaited for 5 s.

        Raises: Reject 404; Unavailable.
        """
        with ExitStack() as stack:
            stack.enter_context(self._streams.seat())
            heard = stack.enter_context(self._events.about(document_id))
            found = await self._reads(tenant_id, lambda work: progress_of(work, document_id))
            if found is None:
                await heard.next(timeout_s=KNOWN_WITHIN_S)
                found = await self._reads(tenant_id, lambda work: progress_of(work, document_id))
            if found is None:
                raise not_found("document")
            return Following(self._streams, heard, stack.pop_all(), Told(*found))


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader knows: the progress, and the number of the request that it is about."""

    progress: DocumentProgress
    request: int


class Following:
    """One such stream."""

    def __init__(self, streams: OpenStreams, heard: Heard, listening: ExitStack, told: Told) -> None:
        self._streams = streams
        self._heard = heard
        self._listening = listening
        self._told = told

    async def serve(self, receive: Receive, send: Send) -> None:
        """Writes the state, then what comes, to the terminal event."""
        with self._listening:
            async with self._streams.answer(receive, send, headers=[]) as stream:
                self._heard.on_event = stream.wake
                await self._serve(stream)

    async def _serve(self, stream: EventStream) -> None:
        await stream.write(_event(self._told.progress))
        while self._told.progress.status not in _TERMINAL:
            heard = await self._heard.next(timeout_s=0)
            if heard is None:
                await stream.wait()
                continue
            after = progressed(self._told, heard.body)
            if after is not self._told:
                self._told = after
                await stream.write(_event(after.progress))


def progressed(before: Told, body: Body) -> Told:
    """What is known after an event; the same object if the event tells nothing new.

    It never goes back, but to the beginning of what was asked for later: from there on it tells of that alone.
    """
    if isinstance(body, DocumentUploaded | RestoreRequested) and body.request > before.request:
        status = body.status if isinstance(body, RestoreRequested) else "queued"
        return Told(DocumentProgress(status=status, step=status, version=body.version), body.request)
    if isinstance(body, DocumentDeleted) or (
        isinstance(body, DocumentEvent) and body.version == before.progress.version
    ):
        after = _forward(before.progress, body)
        return before if after is before.progress else Told(after, before.request)
    return before


def _forward(before: DocumentProgress, body: DocumentEvent) -> DocumentProgress:
    after = before.model_copy(update=_news(body))
    return after if _reached(after) > _reached(before) else before


def _reached(progress: DocumentProgress) -> tuple[int, int, int]:
    return _ORDER.index(progress.status), progress.n_parsed, progress.n_embedded


def _news(body: DocumentEvent) -> dict[str, object]:
    match body:
        case DocumentUploaded():
            told: dict[str, object] = {"status": "queued"}
        case DocumentParsing():
            told = {"status": "parsing", "n_parsed": body.n_parsed, "n_pages": body.n_pages, "eta_s": body.eta_s}
        case DocumentParsed():
            told = {
                "status": "embedding",
                "n_pages": body.n_pages,
                "n_parsed": body.n_pages,
                "n_passages": body.n_passages,
                "eta_s": None,
            }
        case PassagesEmbedded():
            status = "indexing" if body.n_embedded >= body.n_passages else "embedding"
            told = {
                "status": status,
                "n_passages": body.n_passages,
                "n_embedded": body.n_embedded,
                "eta_s": body.eta_s,
            }
        case DocumentIndexed():
            told = {
                "status": "indexed",
                "n_pages": body.n_pages,
                "n_parsed": body.n_pages,
                "n_passages": body.n_passages,
                "n_embedded": body.n_passages,
                "eta_s": None,
            }
        case DocumentFailed():
            told = {"status": "failed", "error": body.error, "eta_s": None}
        case DocumentDeleted():
            told = {"status": "deleted", "eta_s": None}
        case _:
            return {}
    return {**told, "step": told["status"]}


def _event(progress: DocumentProgress) -> bytes:
    name = progress.status if progress.status in _TERMINAL else "progress"
    return event(name, progress.model_dump(mode="json"))
