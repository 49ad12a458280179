from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval.diversity import distinct, spread

LONG = " ".join(f"word{i}" for i in range(60))
CHINESE = "".join(chr(0x4E00 + i) for i in range(80))


def test_copies_are_kept_once_and_named() -> None:
    nearly = LONG.replace("word30", "another")
    texts = [LONG, "something else", LONG.upper(), f"{LONG}\n", nearly, LONG.replace("word", "term")]
    assert distinct(texts, limit=10) == ([0, 1, 5], {2: 0, 3: 0, 4: 0})


def test_scripts_without_spaces_too() -> None:
    changed = CHINESE[:40] + "龍" + CHINESE[41:]
    assert distinct([CHINESE, changed, CHINESE[::-1]], limit=3) == ([0, 2], {1: 0})


def test_in_a_short_text_a_word_makes_a_difference() -> None:
    assert distinct(["How do I lose weight fast?", "How do I lose weight?", "how do i  lose weight?"], limit=3) == (
        [0, 1],
        {2: 1},
    )


def test_half_of_a_text_is_another_text() -> None:
    assert distinct([LONG, LONG[: len(LONG) // 2]], limit=3)[0] == [0, 1]


@given(st.lists(st.text("ab \n", max_size=6) | st.just(LONG), max_size=30), st.integers(0, 10))
def test_the_first_of_each_in_order(texts: list[str], limit: int) -> None:
    kept, copies = distinct(texts, limit=limit)
    assert len(kept) <= limit
    assert kept == sorted(kept)
    assert len({tuple(texts[i].split()) for i in kept}) == len(kept)
    assert all(original in kept and original < copy for copy, original in copies.items())
    assert kept or not texts or limit == 0


def test_close_scores_come_from_several_groups_and_clear_ones_stay() -> None:
    items = [("a1", 1.0, "a"), ("a2", 0.99, "a"), ("b1", 0.96, "b"), ("c1", 0.5, "c"), ("a3", 0.9, "a")]
    assert spread(items) == ["a1", "b1", "a2", "a3", "c1"]


@given(st.lists(st.tuples(st.integers(), st.floats(0, 1), st.integers(0, 3))))
def test_nothing_is_lost_and_the_best_stays_first(items: list[tuple[int, float, int]]) -> None:
    chosen = spread(items)
    assert sorted(chosen) == sorted(item[0] for item in items)
    assert not items or chosen[0] == max(items, key=lambda item: item[1])[0]
