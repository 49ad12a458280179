"""A document's progress only ever goes forward, whatever order the news come in."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from producers.edge.document_events import _ORDER, progressed
from schemas.events import (
    DocumentDeleted,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsed,
    ErrorInfo,
    PassagesEmbedded,
)
from schemas.http import DocumentProgress

ID = UUID(int=1)
QUEUED = DocumentProgress(status="queued", step="queued")
NEWS: list[DocumentEvent] = [
    DocumentParsed(document_id=ID, version=1, media_type="text/plain", n_pages=2, n_passages=4, n_tokens=9),
    PassagesEmbedded(document_id=ID, version=1, n_embedded=2, n_passages=4, eta_s=1.5),
    PassagesEmbedded(document_id=ID, version=1, n_embedded=4, n_passages=4, eta_s=0.0),
    DocumentIndexed(document_id=ID, version=1, n_pages=2, n_passages=4, n_tokens=9),
]


def test_a_document_is_learnt_step_by_step() -> None:
    seen, progress = [], QUEUED
    for event in NEWS:
        progress = progressed(progress, event, 1)
        seen.append((progress.status, progress.step, progress.n_pages, progress.n_passages, progress.n_embedded))
    assert seen == [
        ("embedding", "embedding", 2, 4, 0),
        ("embedding", "embedding", 2, 4, 2),
        ("indexing", "indexing", 2, 4, 4),
        ("indexed", "indexed", 2, 4, 4),
    ]


@given(events=st.lists(st.sampled_from(NEWS), max_size=10))
def test_it_never_goes_back(events: list[DocumentEvent]) -> None:
    progress = QUEUED
    for event in events:
        after = progressed(progress, event, 1)
        assert (_ORDER.index(after.status), after.n_embedded) >= (_ORDER.index(progress.status), progress.n_embedded)
        progress = after


def test_news_of_an_older_version_are_none() -> None:
    assert progressed(QUEUED, NEWS[-1], 2) is QUEUED


def test_a_failure_says_why_and_a_deletion_ends_all() -> None:
    failed = progressed(QUEUED, DocumentFailed(document_id=ID, version=1, error=ErrorInfo(code="c", message="m")), 1)
    assert (failed.status, failed.error) == ("failed", ErrorInfo(code="c", message="m"))
    assert progressed(failed, DocumentDeleted(document_id=ID, version=1), 1).status == "deleted"
