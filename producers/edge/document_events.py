"""How a document is learnt, as server-sent events: the state as PostgreSQL knows it, then every event of the tail."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import UUID

from producers.edge.asgi import Receive, Send
from producers.edge.event_tail import EventTail, Heard
from producers.edge.frames import event
from producers.edge.problems import not_found
from producers.edge.reads.bounded import Reads
from producers.edge.reads.documents import document_by_id
from producers.edge.sse import EventStream, OpenStreams
from schemas.events import (
    DocumentDeleted,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsed,
    DocumentUploaded,
    PassagesEmbedded,
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
            found = await self._reads(tenant_id, lambda work: document_by_id(work, document_id))
            if found is None:
                await heard.next(timeout_s=KNOWN_WITHIN_S)
                found = await self._reads(tenant_id, lambda work: document_by_id(work, document_id))
            if found is None:
                raise not_found("document")
            return Following(self._streams, heard, stack.pop_all(), found.progress, found.version)


class Following:
    """One such stream."""

    def __init__(
        self, streams: OpenStreams, heard: Heard, listening: ExitStack, progress: DocumentProgress, version: int
    ) -> None:
        self._streams = streams
        self._heard = heard
        self._listening = listening
        self._progress = progress
        self._version = version

    async def serve(self, receive: Receive, send: Send) -> None:
        """Writes the state, then what comes, to the terminal event."""
        with self._listening:
            async with self._streams.answer(receive, send, headers=[]) as stream:
                self._heard.on_event = stream.wake
                await self._serve(stream)

    async def _serve(self, stream: EventStream) -> None:
        await stream.write(_event(self._progress))
        while self._progress.status not in _TERMINAL:
            heard = await self._heard.next(timeout_s=0)
            if heard is None:
                await stream.wait()
                continue
            after = progressed(self._progress, heard.body, self._version)
            if after is not self._progress:
                self._progress = after
                await stream.write(_event(after))


def progressed(before: DocumentProgress, body: Body, version: int) -> DocumentProgress:
    """The progress after an event; the same object if the event tells nothing new. It never goes back."""
    if not isinstance(body, DocumentEvent) or body.version < version:
        return before
    after = before.model_copy(update=_told(before, body))
    is_newer = (_ORDER.index(after.status), after.n_embedded) > (_ORDER.index(before.status), before.n_embedded)
    return after if is_newer else before


def _told(before: DocumentProgress, body: DocumentEvent) -> dict[str, object]:
    match body:
        case DocumentUploaded():
            told: dict[str, object] = {"status": "queued"}
        case DocumentParsed():
            told = {"status": "embedding", "n_pages": body.n_pages, "n_passages": body.n_passages}
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
