"""Reranking without a model: what a query and a passage share, and how it stands there."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from providers.ports import Candidate
from providers.terms import is_stopword, stem
from storage.vectors.segment import index_terms, query_terms

MAX_QUERY_TERMS = 64
MAX_PASSAGE_CHARS = 4_000

_PRESENCE, _FREQUENCY, _ORDER, _NEARNESS, _HEADINGS, _LEGS = 0.5, 0.5, 0.2, 0.2, 0.15, 1.0
"""Weights of features between 0 and 1, by hand: on `tests/quality` none of them matters by much, all of them help."""
_NEXT, _WINDOW = 2, 8
"""Terms at this distance follow each other (a word may stand between), or are near."""
_SATURATION = 1.2
_LEG_K = 60
_SHORT = 12
"""Terms below which a passage says little: a heading, the number of a page."""


@dataclass(frozen=True, slots=True)
class _Passage:
    places: Mapping[str, Sequence[int]]
    headings: frozenset[str]
    n_terms: int
    legs: float


class FeatureReranker:
    """`Reranker` over features alone: no model, no network, deterministic, some 0.1 ms a passage.

    Terms are those of the text index (characters and pairs where a script has no spaces), stemmed, weighted by
    their inverse document frequency among the candidates. What counts: how much of the query is there, also by
    frequency (saturated as in BM25); its neighbouring terms in order, and near each other (the sequential dependence
    model: Metzler, Croft: "A Markov Random Field Model for Term Dependencies", SIGIR 2005); terms in the headings;
    the reciprocal ranks of the legs. Very short passages count less.
    """

    @property
    def name(self) -> str:
        """Stable name."""
        return "features"

    async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """See the port; a thread does it."""
        return await asyncio.to_thread(feature_scores, query, candidates)

    async def close(self) -> None:
        """Nothing to give up."""


def feature_scores(query: str, candidates: Sequence[Candidate]) -> list[float]:
    """A score for each candidate, at least 0. Only the first 4,000 characters of a passage count."""
    wanted = [stem(term) for term in query_terms(query).split() if not is_stopword(term)]
    wanted = list(dict.fromkeys(wanted))[:MAX_QUERY_TERMS]
    passages = [_read(candidate, frozenset(wanted)) for candidate in candidates]
    weights = _weights(wanted, passages)
    return [_score(weights, passage) for passage in passages]


def _read(candidate: Candidate, wanted: frozenset[str]) -> _Passage:
    places: defaultdict[str, list[int]] = defaultdict(list)
    terms = index_terms(candidate.text[:MAX_PASSAGE_CHARS]).split()
    for place, term in enumerate(terms):
        if (stemmed := stem(term)) in wanted:
            places[stemmed].append(place)
    headings = frozenset(stem(term) for heading in candidate.headings for term in index_terms(heading).split())
    legs = sum((_LEG_K + 1) / (_LEG_K + rank) for rank in candidate.ranks.values()) / 2
    return _Passage(places, headings, len(terms), legs)


def _weights(wanted: Sequence[str], passages: Sequence[_Passage]) -> dict[str, float]:
    """Shares of the query, in its order, by inverse document frequency among the candidates; they sum to 1."""
    counts = Counter(term for passage in passages for term in passage.places)
    n = len(passages)
    idf = {term: math.log(1 + (n - counts[term] + 0.5) / (counts[term] + 0.5)) for term in wanted if counts[term]}
    total = sum(idf.values())
    return {term: value / total for term, value in idf.items()}


def _score(weights: Mapping[str, float], passage: _Passage) -> float:
    counts = {term: len(passage.places[term]) for term in weights if term in passage.places}
    presence = sum(weights[term] for term in counts)
    frequency = sum(weights[term] * n / (n + _SATURATION) for term, n in counts.items())
    headings = sum(weight for term, weight in weights.items() if term in passage.headings)
    ordered, near = _dependence(weights, passage.places)
    score = (
        _PRESENCE * presence
        + _FREQUENCY * frequency
        + _ORDER * ordered
        + _NEARNESS * near
        + _HEADINGS * headings
        + _LEGS * passage.legs
    )
    return score * min(1.0, 0.5 + passage.n_terms / (2 * _SHORT))


def _dependence(weights: Mapping[str, float], places: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Which share of the query's neighbouring terms follow each other, and which stand near each other."""
    ordered = near = possible = 0.0
    terms = list(weights)
    for first, second in pairwise(terms):
        weight = weights[first] + weights[second]
        possible += weight
        distances = [b - a for a in places.get(first, ()) for b in places.get(second, ())]
        ordered += weight * any(0 < distance <= _NEXT for distance in distances)
        near += weight * any(abs(distance) <= _WINDOW for distance in distances)
    return (ordered / possible, near / possible) if possible else (0.0, 0.0)
