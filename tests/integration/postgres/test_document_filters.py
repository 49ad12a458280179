"""Which documents a search looks at: by type, tags and time, few or many of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from retrieval import search as searching
from retrieval.search import Searcher
from schemas.ids import new_id
from storage.ports import DocumentFilter
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from tests.fakes.embedder import WordHashEmbedder
from tests.fakes.vector_index import MemoryVectorIndex
from tests.library import add_document

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("prefiltered", [1_000, 0], ids=["in the index", "over what it finds"])
async def test_every_filter_alone_and_together(
    database: Database, prefiltered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PREFILTERED", prefiltered)
    tenant, index, embedder = new_id(), MemoryVectorIndex(), WordHashEmbedder()
    ids: dict[str, UUID] = {}
    for name, kind, tags, days in (
        ("plain", "document", ["a"], 0),
        ("faq", "faq", ["a", "b"], 1),
        ("curated", "curated_dataset", ["b"], 2),
    ):
        created_at = NEW_YEAR + timedelta(days=days)
        text = [f"{name}: a heron waits"]
        ids[name] = await add_document(
            database, index, embedder, tenant, text, kind=kind, tags=tags, created_at=created_at
        )
    foreign = await add_document(database, index, embedder, new_id(), ["a heron waits"], kind="faq", tags=["a"])
    searcher = Searcher(index, embedder, PassageVisibility(database))

    async def found(**documents: object) -> set[str]:
        items = await searcher.search(tenant, "heron", documents=DocumentFilter(**documents))  # type: ignore[arg-type]
        return {name for name, id_ in ids.items() for item in items if item.passage.document_id == id_}

    assert await found() == {"plain", "faq", "curated"}
    assert await found(types=("faq", "curated_dataset")) == {"faq", "curated"}
    assert await found(types=()) == set()
    assert await found(tags=("a",)) == {"plain", "faq"}
    assert await found(tags=("a", "b")) == {"faq"}
    assert await found(created_after=NEW_YEAR + timedelta(days=1)) == {"faq", "curated"}
    assert await found(created_before=NEW_YEAR + timedelta(days=1)) == {"plain"}
    assert await found(tags=("b",), document_ids=(ids["plain"], ids["curated"])) == {"curated"}
    assert await found(types=("faq",), document_ids=(foreign,)) == set()
    async with database.transaction() as work:
        await work.execute("UPDATE documents SET deleted_at = now() WHERE id = $1", ids["faq"])
    assert await found(tags=("a",)) == {"plain"}
