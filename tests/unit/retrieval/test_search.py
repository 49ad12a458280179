from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest

from providers.ports import Candidate, ProviderError
from retrieval.search import EVERY, Found, PassageView, Searcher
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
        self.replaced: dict[UUID, tuple[UUID, int]] = {}

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

    async def superseded(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        assert tenant_id == TENANT
        return {self.replaced[i] for i in passage_ids if i in self.replaced}


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
    found = (await (await searcher(PASSAGES))[0].find(TENANT, "loop counter", limit=2, mode=mode)).items
    assert found[0].passage == PASSAGES[0]
    assert len(found) <= 2
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert len({item.passage.id for item in found}) == len(found)


async def test_text_finds_only_what_shares_a_word() -> None:
    found = (await (await searcher(PASSAGES))[0].find(TENANT, "soup", mode="text")).items
    assert [item.passage for item in found] == [PASSAGES[2]]


async def test_only_the_asked_documents() -> None:
    search, _, _ = await searcher(PASSAGES)
    found = (await search.find(TENANT, "loop counter", documents=DocumentFilter((UUID(int=2),)))).items
    assert [item.passage for item in found] == [PASSAGES[2]]
    assert await search.find(TENANT, "loop counter", documents=DocumentFilter(())) == Found()


@pytest.mark.parametrize("query", ["", "  \n\t", "\u3000"])
async def test_a_blank_query_finds_nothing_and_asks_nobody(query: str) -> None:
    search, _, index = await searcher(PASSAGES)
    assert await search.find(TENANT, query) == Found()
    assert index.limits == []


async def test_another_tenant_finds_nothing() -> None:
    search, shown, _ = await searcher(PASSAGES)
    assert await search.find(OTHER, "loop counter") == Found()
    assert shown.asked == []


async def test_what_is_hidden_does_not_come_back_and_one_wider_look_makes_up_for_it() -> None:
    hidden = [passage("loop counter", number=100 + i) for i in range(40)]
    search, shown, index = await searcher(PASSAGES, hidden=hidden)
    found = (await search.find(TENANT, "loop counter", limit=2)).items
    assert [item.passage for item in found] == PASSAGES[:2]
    assert index.limits == [14, 70]
    assert sum(shown.asked) == 43


async def test_one_look_where_enough_is_visible_or_no_more_is_there() -> None:
    search, _, index = await searcher(PASSAGES)
    await search.find(TENANT, "loop", limit=1)
    await search.find(TENANT, "loop", limit=10)
    assert index.limits == [12, 30]


async def test_an_embedder_that_is_away_is_tried_again() -> None:
    class Away(WordHashEmbedder):
        async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            raise ProviderError("overloaded", "what was asked: x", retryable=True, retry_after_s=3)

    with pytest.raises(Retry) as raised:
        await Searcher(MemoryVectorIndex(), Away(), Shown([])).find(TENANT, "x")
    assert raised.value.after_s == 3
    assert str(raised.value) == "the query could not be embedded: overloaded", "it goes into logs"


async def test_a_search_that_a_switch_overtook_is_repeated_until_it_knows_of_no_other() -> None:
    """Its candidates were those of the old version, and PostgreSQL shows the new one only."""
    old, new = passage("the loop counter reaches two", number=0), passage("the loop counter reaches three", number=1)
    found, shown, index = await searcher([new], hidden=[old])
    shown.replaced[old.id] = (old.document_id, 1)
    await found.find(TENANT, "loop counter", limit=2)
    assert len(index.limits) == 2, "once more, and then it knows"
    shown.replaced.clear()
    index.limits.clear()
    await found.find(TENANT, "loop counter", limit=2)
    assert len(index.limits) == 1


LONG = (
    "the loop counter of the trace reaches two in the second iteration and so the recorder begins to write"
    " down what it sees"
)


class Backwards:
    """A reranker that turns the order round, or fails."""

    name = "backwards"

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[Candidate] = []

    async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        if self.fails:
            raise ProviderError("timeout", "too late", retryable=True)
        self.asked = list(candidates)
        return [float(n) for n in range(len(candidates))]

    async def close(self) -> None:
        pass


async def test_what_says_the_same_comes_once() -> None:
    copies = [passage(f"{LONG} {i}", number=10 + i, document=UUID(int=10 + i)) for i in range(5)]
    search, _, _ = await searcher([*copies, *PASSAGES])
    found = await search.find(TENANT, "loop counter", limit=5)
    assert len([item for item in found.items if item.passage in copies]) == 1
    assert len(found.copies) == 4
    assert {original for _, original in found.copies} <= {item.passage.id for item in found.items}


async def test_many_copies_do_not_crowd_out_the_rest() -> None:
    copies = [passage(f"{LONG} {i}", number=100 + i) for i in range(60)]
    search, _, index = await searcher([*copies, *PASSAGES])
    found = (await search.find(TENANT, LONG, limit=3)).items
    assert len(found) == 3
    assert index.limits == [16, 80]


async def test_reranking_decides_the_order_and_says_so() -> None:
    search, _, _ = await searcher(PASSAGES)
    plain = await search.find(TENANT, "loop counter", limit=3)
    assert (plain.reranker, [item.rerank for item in plain.items]) == (None, [None] * 3)
    search._reranker = reranker = Backwards()
    found = await search.find(TENANT, "loop counter", limit=2, rerank=True)
    assert [item.passage for item in found.items] == [item.passage for item in reversed(plain.items)][:2]
    assert [item.score for item in found.items] == [2.0, 1.0]
    assert found.reranker == "backwards"
    assert {candidate.text for candidate in reranker.asked} == {view.text for view in PASSAGES}
    assert (await search.find(TENANT, "loop counter", limit=3)).items == plain.items


async def test_only_the_best_fifty_are_reranked_and_scores_keep_falling() -> None:
    many = [passage(f"loop number {n} {'x' * n}", number=n) for n in range(80)]
    search, _, _ = await searcher(many)
    search._reranker = reranker = Backwards()
    found = await search.find(TENANT, "loop", limit=70, rerank=True)
    assert len(reranker.asked) == 50
    scores = [item.score for item in found.items]
    assert len(scores) == 70
    assert scores == sorted(scores, reverse=True)


async def test_a_reranker_that_fails_leaves_the_order_and_its_reason() -> None:
    search, _, _ = await searcher(PASSAGES)
    plain = await search.find(TENANT, "loop counter")
    search._reranker = Backwards(fails=True)
    found = await search.find(TENANT, "loop counter", rerank=True)
    assert found.items == plain.items
    assert (found.reranker, found.failure) == (None, "timeout: too late")


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([float("nan")] * 3, "protocol: "),
        ([1e308, -1e308, 0.0], "protocol: "),
        ([1.0, 2.0], "protocol: "),
        (["best", "good", "bad"], "TypeError"),
        (None, "TypeError"),
    ],
)
async def test_whatever_a_reranker_gives_there_is_an_order_and_it_says_why(scores: Any, says: str) -> None:
    class Broken(Backwards):
        async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
            given: list[float] = scores
            return given

    search, _, _ = await searcher(PASSAGES)
    plain = await search.find(TENANT, "loop counter")
    search._reranker = Broken()
    found = await search.find(TENANT, "loop counter", rerank=True)
    assert len(found.items) == 3
    assert found.items == plain.items
    assert found.failure is not None
    assert found.failure.startswith(says)


@pytest.mark.parametrize("most", [10_000, 0])
async def test_a_filter_goes_into_the_index_where_few_match_else_over_what_it_finds(most: int) -> None:
    curated = replace(passage("a loop in a curated text", number=999, document=UUID(int=9)), document_type="curated")
    others = [passage(f"loop {n}", number=100 + n, document=UUID(int=100 + n)) for n in range(200)]
    search, shown, index = await searcher([*others, curated])
    shown.most = most
    found = (await search.find(TENANT, "loop", limit=1, documents=DocumentFilter(types=("curated",)))).items
    assert [item.passage for item in found] == [curated]
    assert index.limits == ([12] if most else [12, 60, 300])


async def test_the_weaker_leg_weighs_less() -> None:
    search, _, _ = await searcher(PASSAGES)
    search._weights["vector"] = 0.5
    for item in (await search.find(TENANT, "loop counter")).items:
        expected = sum((0.5 if leg == "vector" else 1.0) / (60 + rank) for leg, rank in item.ranks.items())
        assert item.fused == pytest.approx(expected)
