from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest

from providers.ports import ProviderError
from retrieval.search import EVERY, PassageView, Searcher
from schemas.errors import Retry
from storage.ports import DocumentFilter, VectorHit, VectorRow
from storage.vectors.names import table_name
from tests.fakes.embedder import WordHashEmbedder
from tests.fakes.vector_index import MemoryVectorIndex
from tests.unit.retrieval.passages import passage

TENANT, OTHER = UUID(int=7), UUID(int=8)


class Shown:
    """Visibility of the passages that are given, for one tenant."""

    def __init__(self, passages: Sequence[PassageView]) -> None:
        self.passages = {view.id: view for view in passages}
        self.asked: list[int] = []
        self.most = 10_000

    async def visible(
        self, tenant_id: UUID, passage_ids: Sequence[UUID], documents: DocumentFilter = EVERY
    ) -> dict[UUID, PassageView]:
        self.asked.append(len(passage_ids))
        assert len(set(passage_ids)) == len(passage_ids)
        shown = {i: self.passages[i] for i in passage_ids if i in self.passages} if tenant_id == TENANT else {}
        return {
            i: view for i, view in shown.items() if documents.types is None or view.document_type in documents.types
        }

    async def matching(self, tenant_id: UUID, documents: DocumentFilter, *, at_most: int) -> list[UUID] | None:
        found = {view.document_id for view in self.passages.values() if view.document_type in (documents.types or ())}
        return sorted(found) if len(found) <= min(at_most, self.most) else None


class CountingIndex(MemoryVectorIndex):
    limits: list[int]

    async def search(
        self,
        table: str,
        *,
        vector: npt.NDArray[np.float32] | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[str] | None = None,
    ) -> dict[Literal["vector", "text"], list[VectorHit]]:
        self.limits.append(limit)
        return await super().search(table, vector=vector, text=text, limit=limit, document_ids=document_ids)


async def searcher(
    passages: Sequence[PassageView], *, hidden: Sequence[PassageView] = ()
) -> tuple[Searcher, Shown, CountingIndex]:
    index, embedder, shown = CountingIndex(), WordHashEmbedder(), Shown(passages)
    index.limits = []
    everything = [*hidden, *passages]
    rows = [VectorRow(str(p.id), str(p.document_id), p.version, "b0", p.ordinal, p.text) for p in everything]
    vectors = await embedder.embed([p.text for p in everything])
    await index.replace_batches(table_name(TENANT, embedder.model), [(rows, vectors)], dimensions=64)
    return Searcher(index, embedder, shown), shown, index


PASSAGES = [
    passage("the loop counter reaches two", number=0),
    passage("a loop is left by its side exit", number=1),
    passage("tomato soup with basil", number=2, document=UUID(int=2)),
]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_the_best_comes_first(mode: Literal["hybrid", "vector", "text"]) -> None:
    found = await (await searcher(PASSAGES))[0].search(TENANT, "loop counter", limit=2, mode=mode)
    assert found[0].passage == PASSAGES[0]
    assert len(found) <= 2
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert len({item.passage.id for item in found}) == len(found)


async def test_text_finds_only_what_shares_a_word() -> None:
    found = await (await searcher(PASSAGES))[0].search(TENANT, "soup", mode="text")
    assert [item.passage for item in found] == [PASSAGES[2]]


async def test_only_the_asked_documents() -> None:
    search, _, _ = await searcher(PASSAGES)
    found = await search.search(TENANT, "loop counter", documents=DocumentFilter((UUID(int=2),)))
    assert [item.passage for item in found] == [PASSAGES[2]]
    assert await search.search(TENANT, "loop counter", documents=DocumentFilter(())) == []


@pytest.mark.parametrize("query", ["", "  \n\t", "\u3000"])
async def test_a_blank_query_finds_nothing_and_asks_nobody(query: str) -> None:
    search, _, index = await searcher(PASSAGES)
    assert await search.search(TENANT, query) == []
    assert index.limits == []


async def test_another_tenant_finds_nothing() -> None:
    search, shown, _ = await searcher(PASSAGES)
    assert await search.search(OTHER, "loop counter") == []
    assert shown.asked == []


async def test_what_is_hidden_does_not_come_back_and_one_wider_look_makes_up_for_it() -> None:
    hidden = [passage("loop counter", number=100 + i) for i in range(40)]
    search, shown, index = await searcher(PASSAGES, hidden=hidden)
    found = await search.search(TENANT, "loop counter", limit=2)
    assert [item.passage for item in found] == PASSAGES[:2]
    assert index.limits == [28, 140]
    assert sum(shown.asked) == 43


async def test_one_look_where_enough_is_visible_or_no_more_is_there() -> None:
    search, _, index = await searcher(PASSAGES)
    await search.search(TENANT, "loop", limit=1)
    await search.search(TENANT, "loop", limit=10)
    assert index.limits == [24, 60]


async def test_an_embedder_that_is_away_is_tried_again() -> None:
    class Away(WordHashEmbedder):
        async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            raise ProviderError("overloaded", "busy", retryable=True, retry_after_s=3)

    with pytest.raises(Retry) as raised:
        await Searcher(MemoryVectorIndex(), Away(), Shown([])).search(TENANT, "x")
    assert raised.value.after_s == 3
