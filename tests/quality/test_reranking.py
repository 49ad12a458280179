"""Whether reranking earns its place: real documents, labelled questions, the offline embedder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from consumers.documents.parse.document import ParseLimits
from consumers.documents.parse.formats import parse
from consumers.documents.passages import split_into_passages
from providers.embeddings import WordLlamaEmbedder
from providers.ports import Candidate
from providers.tokens import TiktokenCounter
from ragline.wiring.searching import OFFLINE_VECTOR_WEIGHT
from retrieval.feature_reranker import FeatureReranker, feature_scores
from retrieval.metrics import ndcg
from retrieval.search import RERANKED, Searcher, SearchMode
from storage.ports import DocumentFilter, PassageView, VectorRow
from storage.vectors.lance import LanceVectorIndex
from storage.vectors.names import table_name
from tests.conftest import Samples
from tests.quality.labelled import LABELLED, SAMPLES

TENANT = UUID(int=1)


class AllShown:
    """Every passage is visible; PostgreSQL has its own tests."""

    def __init__(self, views: Sequence[PassageView]) -> None:
        self._views = {view.id: view for view in views}

    async def visible(
        self, tenant_id: UUID, passage_ids: Sequence[UUID], documents: DocumentFilter | None = None
    ) -> dict[UUID, PassageView]:
        return {id_: self._views[id_] for id_ in passage_ids}

    async def matching(self, tenant_id: UUID, documents: DocumentFilter, *, at_most: int) -> list[UUID] | None:
        raise AssertionError("nothing is filtered here")

    async def superseded(self, tenant_id: UUID, passage_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        raise AssertionError("nothing is hidden here")


@pytest.fixture(scope="module")
def views(samples: Samples) -> list[PassageView]:
    """The passages of all samples; a document's name is its file's."""
    counter = TiktokenCounter()
    read: list[PassageView] = []
    for n, name in enumerate(SAMPLES):
        document = parse(samples.path(name), name=name, media_type=None, limits=ParseLimits())
        for ordinal, found in enumerate(split_into_passages(document, counter)):
            id_, document_id = UUID(int=len(read) + 1), UUID(int=1_000 + n)
            span = (found.page, found.start, found.end, found.heading_path, ordinal)
            read.append(PassageView(id_, document_id, name, 1, document.text[found.start : found.end], *span))
    return read


async def measured(
    searcher: Searcher, relevant: Sequence[Mapping[str, int]], mode: SearchMode, *, rerank: bool
) -> float:
    """Mean nDCG@10 over the labelled questions."""
    figures = []
    for label, grades in zip(LABELLED, relevant, strict=True):
        items = (await searcher.find(TENANT, label.question, mode=mode, rerank=rerank)).items
        figures.append(ndcg([str(item.passage.id) for item in items], grades, 10))
    return statistics.fmean(figures)


@pytest.mark.timeout(120)
async def test_reranking_helps_and_a_hybrid_is_as_good_as_its_legs(views: list[PassageView], tmp_path: Path) -> None:
    relevant = [
        {
            str(view.id): 1
            for view in views
            if view.document_name == label.sample and any(answer in view.text for answer in label.answers)
        }
        for label in LABELLED
    ]
    assert all(relevant)
    embedder, index = WordLlamaEmbedder(), LanceVectorIndex(str(tmp_path))
    rows = [VectorRow(str(view.id), str(view.document_id), 1, "b", view.ordinal, view.text) for view in views]
    vectors = await embedder.embed([view.text for view in views])
    await index.replace_batches(table_name(TENANT, embedder.model), [(rows, vectors)], dimensions=256)
    reranker = FeatureReranker()
    searcher = Searcher(index, embedder, AllShown(views), reranker=reranker, vector_weight=OFFLINE_VECTOR_WEIGHT)
    text = await measured(searcher, relevant, "text", rerank=False)
    vector = await measured(searcher, relevant, "vector", rerank=False)
    hybrid = await measured(searcher, relevant, "hybrid", rerank=False)
    reranked = await measured(searcher, relevant, "hybrid", rerank=True)
    await embedder.close()
    await index.close()
    print(f"nDCG@10: text {text:.3f}, vector {vector:.3f}, hybrid {hybrid:.3f}, reranked {reranked:.3f}")
    assert hybrid >= max(text, vector) - 0.01
    assert reranked >= hybrid + 0.005
    assert reranked >= 0.86


def test_fifty_passages_take_a_moment(views: list[PassageView]) -> None:
    long = [view for view in views if len(view.text) > 300][:RERANKED]
    candidates = [Candidate(view.text, view.heading_path, {"text": n}) for n, view in enumerate(long, start=1)]
    assert len(candidates) == RERANKED
    took_s = []
    for label in LABELLED[:20]:
        began = time.process_time()
        feature_scores(label.question, candidates)
        took_s.append(time.process_time() - began)
    print(f"{1000 * statistics.median(took_s):.1f} ms of CPU for {RERANKED} passages")
    assert statistics.median(took_s) < 0.2  # some 25 ms on an idle core, a multiple on a busy one
