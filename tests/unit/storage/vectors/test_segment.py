from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.vectors.segment import index_terms, query_terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Trace-recorder, v2!", "the trace recorder v2"),
        ("ＡＢＣ Café straße", "abc cafe strasse"),
        ("東京都", "東 京 都 東京 京都"),
        ("추적은", "추 적 은 추적 적은"),
        ("GPUで学習", "gpu で 学 習 で学 学習"),
        ("snake_case", "snake case"),
        ("", ""),
    ],
)
def test_terms_of_a_text(text: str, terms: str) -> None:
    assert index_terms(text) == terms


@pytest.mark.parametrize(
    ("query", "terms"),
    [("東京都", "東京 京都"), ("猫はどこ", "猫 猫は はど どこ"), ("猫", "猫"), ("강은", "강 강은"),
     ("추적은", "추적 적은"), ("the the", "the")],
)  # fmt: skip
def test_terms_of_a_query(query: str, terms: str) -> None:
    assert query_terms(query) == terms


@given(st.text(max_size=200))
def test_a_query_asks_for_nothing_that_its_own_text_lacks(text: str) -> None:
    assert set(query_terms(text).split()) <= set(index_terms(text).split())
    assert bool(query_terms(text)) == bool(index_terms(text))


@given(st.text(alphabet="가나다é猫ガABc 1", max_size=50))
def test_how_a_character_is_composed_does_not_matter(text: str) -> None:
    assert index_terms(unicodedata.normalize("NFD", text)) == index_terms(text)
