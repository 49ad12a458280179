"""Search, and what prompts are prepared with."""

from __future__ import annotations

from providers.embeddings import WordLlamaEmbedder
from providers.ports import Embedder, Models, Reranker
from providers.tokens import TiktokenCounter
from ragline.settings import Settings
from retrieval.follow_up import QueryRewriter
from retrieval.preparing import Contexts
from retrieval.search import Searcher
from storage.ports import VectorIndex
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database

OFFLINE_VECTOR_WEIGHT = 0.5
"""Averaged word vectors tell less than the words themselves: `tests/quality` has the figures."""


def build_searcher(vectors: VectorIndex, embedder: Embedder, database: Database, reranker: Reranker) -> Searcher:
    """Search as every role does it."""
    weight = OFFLINE_VECTOR_WEIGHT if isinstance(embedder, WordLlamaEmbedder) else 1.0
    return Searcher(vectors, embedder, PassageVisibility(database), reranker=reranker, vector_weight=weight)


def build_contexts(settings: Settings, database: Database, searcher: Searcher, models: Models) -> Contexts:
    """What prepares prompts; with an auxiliary model it rewrites follow-up questions."""
    auxiliary = settings.auxiliary_model
    tokens = TiktokenCounter()
    rewriter = None if auxiliary is None else QueryRewriter(models.by_name[auxiliary], tokens)
    return Contexts(database, searcher, tokens, rewriter=rewriter)
