"""A document's progress only ever goes forward, whatever order the news come in."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from producers.edge.document_events import _ORDER, Told, progressed
from schemas.events import (
    DocumentDeleted,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsed,
    DocumentUploaded,
    ErrorInfo,
    PassagesEmbedded,
    RestoreRequested,
)
from schemas.http import DocumentProgress

ID = UUID(int=1)
QUEUED = Told(DocumentProgress(status="queued", step="queued"), 1)
NEWS: list[DocumentEvent] = [
    DocumentParsed(document_id=ID, version=1, media_type="text/plain", n_pages=2, n_passages=4, n_tokens=9),
    PassagesEmbedded(document_id=ID, version=1, n_embedded=2, n_passages=4, eta_s=1.5),
    PassagesEmbedded(document_id=ID, version=1, n_embedded=4, n_passages=4, eta_s=0.0),
    DocumentIndexed(document_id=ID, version=1, n_pages=2, n_passages=4, n_tokens=9),
]


def test_a_document_is_learnt_step_by_step() -> None:
    seen, told = [], QUEUED
    for event in NEWS:
        told = progressed(told, event)
        progress = told.progress
        seen.append((progress.status, progress.step, progress.n_pages, progress.n_passages, progress.n_embedded))
    assert seen == [
        ("embedding", "embedding", 2, 4, 0),
        ("embedding", "embedding", 2, 4, 2),
        ("indexing", "indexing", 2, 4, 4),
        ("indexed", "indexed", 2, 4, 4),
    ]


@given(events=st.lists(st.sampled_from(NEWS), max_size=10))
def test_it_never_goes_back(events: list[DocumentEvent]) -> None:
    told = QUEUED
    for event in events:
        after, before = progressed(told, event), told.progress
        assert (_ORDER.index(after.progress.status), after.progress.n_embedded) >= (
            _ORDER.index(before.status),
            before.n_embedded,
        )
        told = after


def uploaded(version: int, request: int) -> DocumentUploaded:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return DocumentUploaded(
        document_id=ID,
        version=version,
        name="a",
        type="document",
        media_type=None,
        size_bytes=1,
        sha256="",
        created_at=at,
        request=request,
    )


def test_news_of_another_version_are_none() -> None:
    second = Told(DocumentProgress(status="queued", step="queued", version=2), 2)
    assert progressed(second, NEWS[-1]) is second
    assert progressed(second, uploaded(1, 1)) is second


def test_what_was_asked_for_last_is_told_from_its_beginning() -> None:
    told = progressed(progressed(QUEUED, NEWS[1]), uploaded(2, 2))
    assert (told.request, told.progress.version, told.progress.status, told.progress.n_embedded) == (2, 2, "queued", 0)
    told = progressed(told, RestoreRequested(document_id=ID, version=1, request=3, status="embedding"))
    assert (told.progress.version, told.progress.status) == (1, "embedding")
    assert progressed(told, uploaded(2, 2)) is told, "heard late"
    assert progressed(told, NEWS[-1]).progress.status == "indexed"


def test_a_failure_says_why_and_a_deletion_ends_all() -> None:
    failed = progressed(QUEUED, DocumentFailed(document_id=ID, version=1, error=ErrorInfo(code="c", message="m")))
    assert (failed.progress.status, failed.progress.error) == ("failed", ErrorInfo(code="c", message="m"))
    assert progressed(failed, DocumentDeleted(document_id=ID, version=9)).progress.status == "deleted"
