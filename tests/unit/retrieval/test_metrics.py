"""The measures, against values worked out by hand and against what they must never do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.metrics import ndcg, recall, reciprocal_rank

RELEVANT = {"a": 2, "b": 1, "c": 1}


def test_recall_counts_what_is_among_the_first() -> None:
    assert recall(["x", "a", "b"], RELEVANT, 2) == pytest.approx(1 / 3)
    assert recall(["c", "a", "b"], RELEVANT, 3) == 1.0
    assert recall([], RELEVANT, 10) == 0.0


def test_ndcg_by_hand() -> None:
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(["a", "b", "c"], RELEVANT, 10) == pytest.approx(1.0)
    assert ndcg(["x", "b", "a"], RELEVANT, 10) == pytest.approx((1 / math.log2(3) + 2 / math.log2(4)) / ideal)
    assert ndcg(["b"], RELEVANT, 1) == pytest.approx(1 / 2)


def test_the_first_relevant_one_counts() -> None:
    assert reciprocal_rank(["x", "y", "b", "a"], RELEVANT, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x", "y", "b"], RELEVANT, 2) == 0.0


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 3), min_size=1),
    st.integers(1, 10),
)
def test_between_nothing_and_all_and_better_for_a_better_order(
    ranked: list[str], relevant: dict[str, int], k: int
) -> None:
    best = sorted(ranked, key=lambda id_: -relevant.get(id_, 0))
    for measure in (recall, ndcg, reciprocal_rank):
        assert 0.0 <= measure(ranked, relevant, k) <= measure(best, relevant, k) <= 1.0 + 1e-9
