"""Several rankings into one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def reciprocal_rank_fusion(
    rankings: Iterable[Sequence[Item]], *, k: int = 60, weights: Sequence[float] | None = None
) -> list[tuple[Item, float]]:
    """Items with the sum of `weight / (k + rank)` over the rankings that hold them, best first; ranks count from 1.

    A ranking without weight (`weights`, in the rankings' order) has 1.

    An item counts once a ranking, at its best rank; equal scores keep the order of first appearance.
    Cormack, Clarke, Büttcher: "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009.
    """
    scores: dict[Item, float] = {}
    for n, ranking in enumerate(rankings):
        weight = weights[n] if weights is not None else 1.0
        for rank, item in enumerate(dict.fromkeys(ranking), start=1):
            scores[item] = scores.get(item, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])
