"""Which documents a search looks at: by type, tags, attributes and time, few or many of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from retrieval import search as searching
from retrieval.search import Searcher
from schemas.attributes import Attributes
from schemas.ids import new_id
from storage.ports import DocumentFilter, VectorRow
from storage.postgres.document_attributes import HAVING_ALL, replace_attributes
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from storage.vectors.lance import LanceVectorIndex
from storage.vectors.names import table_name
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
    said: tuple[Attributes, ...] = ({"year": 2025, "team": "a"}, {"year": 2026, "is_new": True}, {"year": "2026"})
    for name, kind, tags, days in (
        ("plain", "document", ["a"], 0),
        ("faq", "faq", ["a", "b"], 1),
        ("curated", "curated_dataset", ["b"], 2),
    ):
        created_at = NEW_YEAR + timedelta(days=days)
        text = [f"{name}: a heron waits"]
        ids[name] = await add_document(
            database, index, embedder, tenant, text, kind=kind, tags=tags, attributes=said[days], created_at=created_at
        )
    foreign = await add_document(
        database, index, embedder, new_id(), ["a heron waits"], kind="faq", tags=["a"], attributes=said[0]
    )
    searcher = Searcher(index, embedder, PassageVisibility(database))

    async def found(**documents: object) -> set[str]:
        matching = DocumentFilter(**documents)  # type: ignore[arg-type]
        items = (await searcher.find(tenant, "heron", documents=matching)).items
        return {name for name, id_ in ids.items() for item in items if item.passage.document_id == id_}

    assert await found() == {"plain", "faq", "curated"}
    assert await found(types=("faq", "curated_dataset")) == {"faq", "curated"}
    assert await found(types=()) == set()
    assert await found(tags=("a",)) == {"plain", "faq"}
    assert await found(tags=("a", "b")) == {"faq"}
    assert await found(created_after=NEW_YEAR + timedelta(days=1)) == {"faq", "curated"}
    assert await found(created_before=NEW_YEAR + timedelta(days=1)) == {"plain"}
    assert await found(tags=("b",), document_ids=(ids["plain"], ids["curated"])) == {"curated"}
    assert await found(attributes=(("year", 2026),)) == await found(attributes=(("year", 2026.0),)) == {"faq"}
    assert await found(attributes=(("year", "2026"),)) == {"curated"}, "a text is no number"
    assert await found(attributes=(("year", 2025), ("team", "a"))) == {"plain"}
    assert await found(attributes=(("year", 2026), ("team", "a"))) == set()
    assert await found(attributes=(("is_new", True),), types=("faq",)) == {"faq"}
    assert await found(attributes=(("is_new", 1),)) == set()
    assert await found(types=("faq",), document_ids=(foreign,)) == set()
    async with database.transaction() as work:
        await work.execute("UPDATE documents SET deleted_at = now() WHERE id = $1", ids["faq"])
    assert await found(tags=("a",)) == {"plain"}


async def test_one_of_a_thousand_by_its_attributes(database: Database, tmp_path: Path) -> None:
    """All and only what matches, in LanceDB itself, however many say the same words."""
    tenant, embedder = new_id(), WordHashEmbedder()
    index = LanceVectorIndex(str(tmp_path))
    async with database.transaction() as work:
        stored = await work.fetch(_THOUSAND, tenant)
        attributes = {row["document_id"]: (tenant, {"n": row["n"], "is_odd": row["n"] % 2 == 1}) for row in stored}
        await replace_attributes(work, attributes)
    rows = [VectorRow(str(row["id"]), str(row["document_id"]), 1, "b", 0, row["text"]) for row in stored]
    vectors = await embedder.embed([row["text"] for row in stored])
    table = table_name(tenant, embedder.model)
    await index.replace_batches(table, [(rows, vectors)], dimensions=embedder.dimensions)
    searcher = Searcher(index, embedder, PassageVisibility(database))

    async def found(**attributes: int) -> list[str]:
        matching = DocumentFilter(attributes=tuple(attributes.items()))
        items = (await searcher.find(tenant, "heron", documents=matching, limit=100)).items
        return sorted(item.passage.text for item in items)

    assert await found(n=777) == await found(n=777, is_odd=True) == ["heron 777"]
    assert await found(n=777, is_odd=False) == await found(n=1000) == []
    async with database.transaction(tenant) as work:
        await work.execute("SET LOCAL enable_seqscan = off")
        sql = HAVING_ALL.replace("$10", "$3").replace("$9", "$2")
        plan = await work.fetch(f"EXPLAIN {sql}", tenant, ["n"], ["777"])
    assert "Index Cond: ((tenant_id = " in "".join(row[0] for row in plan), "behind the wall too"
    await index.close()


_THOUSAND = (
    "WITH made AS (INSERT INTO documents (id, tenant_id, user_id, name, active_version, attributes)"
    " SELECT gen_random_uuid(), $1, $1, n::text, 1, jsonb_build_object('n', n, 'is_odd', n % 2 = 1)"
    " FROM generate_series(0, 999) AS n RETURNING id, name::int AS n)"
    " INSERT INTO passages (id, tenant_id, document_id, version, batch, ordinal, text, page, span_start, span_end,"
    " heading_path, n_tokens, content_hash)"
    " SELECT gen_random_uuid(), $1, id, 1, 0, 0, 'heron ' || n, 1, 0, 9, '{}', 1, '' FROM made"
    " RETURNING id, document_id, text, substr(text, 7)::int AS n"
)
