"""The documents' rules, one by one and in any order."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.decide import decide, evolve
from consumers.documents.state import Document, Library
from schemas.commands import AddDocument, DeleteDocument, IndexBatch, KnowledgeCommand
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import DocumentDeleted, DocumentUploaded

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENANT, OTHER, USER = UUID(int=1), UUID(int=2), UUID(int=3)


def add(document: int, content: int = 1, *, tenant: UUID = TENANT, name: str = "a.txt") -> Envelope:
    body = AddDocument(
        document_id=UUID(int=document),
        name=name,
        tags=("x",),
        media_type="text/plain",
        blob_key=f"uploads/{document}",
        sha256=f"{content:064x}",
        size_bytes=5,
    )
    return envelope(body, tenant)


def delete(document: int, *, tenant: UUID = TENANT) -> Envelope:
    return envelope(DeleteDocument(document_id=UUID(int=document)), tenant)


def envelope(body: KnowledgeCommand, tenant: UUID) -> Envelope:
    return Envelope(body=body, tenant_id=tenant, user_id=USER, source="test")


def after(*commands: Envelope) -> Library:
    library = Library(TENANT)
    for command in commands:
        for fact in decide(library, command, NOW):
            library = evolve(library, fact, command)
    return library


def test_a_document_is_registered_with_what_its_command_says() -> None:
    [fact] = decide(None, add(7, 9), NOW)
    assert fact == DocumentUploaded(
        document_id=UUID(int=7),
        version=1,
        name="a.txt",
        type="document",
        media_type="text/plain",
        size_bytes=5,
        sha256=f"{9:064x}",
        tags=("x",),
        created_at=NOW,
    )


def test_the_same_bytes_are_refused_and_their_holder_is_named() -> None:
    library = after(add(1, 5, name="first.txt"))
    with pytest.raises(Reject, match=r"first\.txt") as refused:
        decide(library, add(2, 5), NOW)
    assert (refused.value.code, refused.value.status) == ("duplicate_document", 409)
    assert refused.value.extra == {"document_id": str(UUID(int=1))}
    assert str(UUID(int=1)) in refused.value.detail


def test_an_id_stands_only_once_even_after_deletion() -> None:
    for library in (after(add(1, 5)), after(add(1, 5), delete(1))):
        with pytest.raises(Reject) as refused:
            decide(library, add(1, 6), NOW)
        assert (refused.value.code, refused.value.status) == ("document_exists", 409)


def test_a_deleted_documents_bytes_are_free_again() -> None:
    library = after(add(1, 5), delete(1))
    [fact] = decide(library, add(2, 5), NOW)
    assert isinstance(fact, DocumentUploaded)


def test_only_a_living_document_of_the_tenant_can_be_deleted() -> None:
    foreign = Library(TENANT, {UUID(int=1): Document(UUID(int=1), OTHER, "theirs")})
    for library in (None, foreign, after(add(1), delete(1))):
        with pytest.raises(Reject) as refused:
            decide(library, delete(1), NOW)
        assert (refused.value.code, refused.value.status) == ("document_not_found", 404)
    assert decide(after(add(1)), delete(1), NOW) == [DocumentDeleted(document_id=UUID(int=1), version=1)]


def test_a_command_of_another_topic_is_a_bug_not_a_rejection() -> None:
    body = IndexBatch(
        tenant_id=TENANT, document_id=UUID(int=1), version=1, batch=0, n_batches=1, n_rows=1, table="t", blob_key="b"
    )
    with pytest.raises(TypeError, match="index_batch"):
        decide(None, Envelope(body=body, tenant_id=TENANT, source="test"), NOW)


steps = st.lists(
    st.one_of(
        st.builds(add, st.integers(1, 6), st.integers(1, 3)),
        st.builds(delete, st.integers(1, 6)),
    ),
    max_size=30,
)


@given(steps)
def test_in_any_order_bytes_have_one_living_holder_and_ids_one_life(commands: list[Envelope]) -> None:
    library: Library | None = None
    living: dict[UUID, str] = {}
    used: set[UUID] = set()
    for command in commands:
        try:
            facts = decide(library, command, NOW)
        except Reject:
            facts = []
        for fact in facts:
            library = evolve(library, fact, command)
            if isinstance(fact, DocumentUploaded):
                assert fact.document_id not in used
                assert fact.sha256 not in living.values()
                living[fact.document_id] = fact.sha256
                used.add(fact.document_id)
            elif isinstance(fact, DocumentDeleted):
                del living[fact.document_id]
        if library is not None:
            assert {sha: holder.id for sha, holder in library.by_bytes.items()} == {v: k for k, v in living.items()}
            assert {i for i, d in library.documents.items() if d.deleted_at is None} == set(living)
