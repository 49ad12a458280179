"""How good a ranking is, against judgements: the measures that BEIR reports, as trec_eval computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def recall(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """The share of what is relevant that stands among the first `k`. `relevant`: id → grade > 0, at least one."""
    return len(relevant.keys() & set(ranked[:k])) / len(relevant)


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k`: Σ grade / log2(rank + 1), over that of the ideal order.

    Järvelin, Kekäläinen: "Cumulated gain-based evaluation of IR techniques", TOIS 2002; linear gain, as trec_eval.
    """
    ideal = sorted(relevant.values(), reverse=True)
    return _gain([relevant.get(id_, 0) for id_ in ranked[:k]]) / _gain(ideal[:k])


def reciprocal_rank(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """One over the rank of the first relevant one among the first `k`; 0 if there is none."""
    return next((1 / rank for rank, id_ in enumerate(ranked[:k], start=1) if id_ in relevant), 0.0)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))
