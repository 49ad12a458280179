"""The documents' rules, one by one and in any order."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.decide import decide, enters_work, evolve
from consumers.documents.state import Document, Library, VersionKey
from schemas.commands import (
    AddDocument,
    DeleteDocument,
    IndexBatch,
    KnowledgeCommand,
    ReplaceDocument,
    RestoreVersion,
    UpdateDocument,
)
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import DocumentDeleted, DocumentUpdated, DocumentUploaded, RestoreRequested
from schemas.records import Body

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


def replaced(document: int, content: int, *, name: str | None = None) -> Envelope:
    body = ReplaceDocument(
        document_id=UUID(int=document), name=name, blob_key="k", sha256=f"{content:064x}", size_bytes=5
    )
    return envelope(body, TENANT)


def restore(document: int, version: int) -> Envelope:
    return envelope(RestoreVersion(document_id=UUID(int=document), version=version), TENANT)


def update(document: int, name: str) -> Envelope:
    return envelope(UpdateDocument(document_id=UUID(int=document), name=name), TENANT)


def indexed(library: Library, document: int, version: int, *, is_active: bool = True) -> Library:
    """What the index makes of a version; `decide` is told it by the next load."""
    key = (UUID(int=document), version)
    versions = {**library.versions, key: dataclasses.replace(library.versions[key], status="indexed", is_parsed=True)}
    documents = dict(library.documents)
    if is_active:
        documents[key[0]] = dataclasses.replace(documents[key[0]], active_version=version)
    return dataclasses.replace(library, versions=versions, documents=documents)


def facts_of(library: Library, command: Envelope) -> list[Body]:
    return decide(library, command, NOW)


def refusal(library: Library | None, command: Envelope) -> tuple[str, int]:
    with pytest.raises(Reject) as refused:
        decide(library, command, NOW)
    return refused.value.code, refused.value.status


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
    assert refused.value.extra == {"document_id": str(UUID(int=1)), "version": 1}
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


def test_new_bytes_are_the_next_version_and_the_last_request() -> None:
    library = after(add(1, 5, name="a.txt"), replaced(1, 6))
    [fact] = facts_of(library, replaced(1, 7))
    assert isinstance(fact, DocumentUploaded)
    assert (fact.version, fact.request, fact.name, fact.tags) == (3, 3, "a.txt", ("x",))
    [named, fact] = facts_of(library, replaced(1, 7, name="b.txt"))
    assert named == DocumentUpdated(document_id=UUID(int=1), name="b.txt", type="document", tags=("x",))
    assert isinstance(fact, DocumentUploaded)
    assert fact.name == "b.txt"


def test_bytes_of_another_document_or_of_what_was_asked_for_last_are_duplicates() -> None:
    library = after(add(1, 5), add(2, 6), replaced(1, 7))
    for command in (replaced(1, 6), replaced(1, 7), add(3, 7), add(3, 5)):
        assert refusal(library, command) == ("duplicate_document", 409)


def test_bytes_of_an_earlier_version_restore_it() -> None:
    library = indexed(indexed(after(add(1, 5), replaced(1, 6)), 1, 1), 1, 2)
    wanted = RestoreRequested(document_id=UUID(int=1), version=1, request=3, status="embedding")
    assert facts_of(library, replaced(1, 5)) == facts_of(library, restore(1, 1)) == [wanted]
    [named, fact] = facts_of(library, replaced(1, 5, name="b"))
    assert isinstance(named, DocumentUpdated)
    assert fact == wanted


def test_only_what_rests_enters_work_by_a_restore() -> None:
    waiting = after(add(1, 5), replaced(1, 6))
    learnt = indexed(indexed(waiting, 1, 1), 1, 2)
    for library, version, enters in ((waiting, 1, False), (learnt, 2, False), (learnt, 1, True)):
        [fact] = facts_of(library, restore(1, version))
        assert enters_work(library, fact) == enters
    [named, uploaded] = facts_of(learnt, replaced(1, 7, name="b"))
    assert (enters_work(learnt, named), enters_work(learnt, uploaded)) == (False, True)


def test_a_restore_says_what_the_version_is_by_it() -> None:
    library = indexed(after(add(1, 5), replaced(1, 6)), 1, 1)
    statuses = {1: "indexed", 2: "queued"}
    for number, status in statuses.items():
        [fact] = facts_of(library, restore(1, number))
        assert fact == RestoreRequested(document_id=UUID(int=1), version=number, request=3, status=status)
    failed = {key: dataclasses.replace(v, status="failed") if key[1] == 2 else v for key, v in library.versions.items()}
    by_bytes = {sha: key for sha, key in library.by_bytes.items() if key[1] != 2}
    library = dataclasses.replace(library, versions=failed, by_bytes=by_bytes)
    [fact] = facts_of(library, restore(1, 2))
    assert fact == RestoreRequested(document_id=UUID(int=1), version=2, request=3, status="queued")
    again = evolve(library, facts_of(library, replaced(1, 6))[0], replaced(1, 6))
    assert refusal(again, restore(1, 2)) == ("duplicate_document", 409)


def test_only_what_stands_can_be_replaced_changed_or_restored() -> None:
    foreign = Library(TENANT, {UUID(int=1): Document(UUID(int=1), OTHER, "theirs")})
    for library in (None, foreign, after(add(1), delete(1))):
        for command in (replaced(1, 9), update(1, "b"), restore(1, 1)):
            assert refusal(library, command) == ("document_not_found", 404)
    assert refusal(after(add(1)), restore(1, 2)) == ("version_not_found", 404)


def test_a_name_changes_and_nothing_else() -> None:
    [fact] = facts_of(after(add(1)), update(1, "b.txt"))
    assert fact == DocumentUpdated(document_id=UUID(int=1), name="b.txt", type="document", tags=("x",))
    library = after(add(1), update(1, "b.txt"))
    assert library.documents[UUID(int=1)].name == "b.txt"


def test_a_command_of_another_topic_is_a_bug_not_a_rejection() -> None:
    body = IndexBatch(
        tenant_id=TENANT, document_id=UUID(int=1), version=1, batch=0, n_batches=1, n_rows=1, table="t", blob_key="b"
    )
    with pytest.raises(TypeError, match="index_batch"):
        decide(None, Envelope(body=body, tenant_id=TENANT, source="test"), NOW)


steps = st.lists(
    st.one_of(
        st.builds(add, st.integers(1, 6), st.integers(1, 6)),
        st.builds(replaced, st.integers(1, 6), st.integers(1, 6)),
        st.builds(restore, st.integers(1, 6), st.integers(1, 3)),
        st.builds(delete, st.integers(1, 6)),
    ),
    max_size=40,
)


@given(steps)
def test_in_any_order_bytes_have_one_living_holder_and_requests_one_order(commands: list[Envelope]) -> None:
    library: Library | None = None
    living: dict[str, VersionKey] = {}
    last: dict[UUID, int] = {}
    used: set[VersionKey] = set()
    for command in commands:
        try:
            facts = decide(library, command, NOW)
        except Reject:
            facts = []
        for fact in facts:
            library = evolve(library, fact, command)
            if isinstance(fact, DocumentUploaded | RestoreRequested):
                assert fact.request == last.get(fact.document_id, 0) + 1
                last[fact.document_id] = fact.request
            if isinstance(fact, DocumentUploaded):
                key = (fact.document_id, fact.version)
                assert key not in used
                assert fact.sha256 not in living
                living[fact.sha256] = key
                used.add(key)
            elif isinstance(fact, RestoreRequested):
                assert (fact.document_id, fact.version) in living.values()
            elif isinstance(fact, DocumentDeleted):
                living = {sha: key for sha, key in living.items() if key[0] != fact.document_id}
        if library is not None:
            assert library.by_bytes == living
            standing = {i for i, document in library.documents.items() if document.deleted_at is None}
            assert standing == {document_id for document_id, _ in living.values()}
