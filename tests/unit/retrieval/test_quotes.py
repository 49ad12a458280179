from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.terms import terms
from retrieval.quotes import MAX_QUOTE, best_quote, sentence_spans

TEXT = (
    "Dynamic languages are popular. The trace recorder starts when a loop header has been\n"
    "executed often enough, e.g. twice. Native code is then emitted! 추적은 두 번 뒤에 시작된다. 猫である。犬ではない。"
)


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


def test_sentences_are_exact_spans() -> None:
    assert split(TEXT) == [
        "Dynamic languages are popular.",
        "The trace recorder starts when a loop header has been\nexecuted often enough, e.g. twice.",
        "Native code is then emitted!",
        "추적은 두 번 뒤에 시작된다.",
        "猫である。",
        "犬ではない。",
    ]


def test_paragraphs_and_abbreviations() -> None:
    assert split("A heading\n\nSee Fig. 3 and J. Smith et al. Good.  [1] Next") == [
        "A heading",
        "See Fig. 3 and J. Smith et al. Good.",
        "[1] Next",
    ]


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("Recording starts once a loop header was executed often enough.", "The trace recorder starts"),
        ("Native code is emitted.", "Native code"),
        ("추적은 언제 시작되나", "추적은"),
        ("これは犬ではない", "犬"),
        ("völlig anderes", "Dynamic languages"),
    ],
)
def test_the_sentence_that_says_it(claim: str, quote: str) -> None:
    start, end = best_quote(TEXT, [terms(claim)])
    assert TEXT[start:end].startswith(quote)


def test_neighbours_join_where_a_claim_needs_both() -> None:
    text = "Alpha beams bend. Gamma rays pass walls easily. Unrelated end."
    start, end = best_quote(text, [terms("alpha beams bend while gamma rays pass walls easily")])
    assert text[start:end] == "Alpha beams bend. Gamma rays pass walls easily."


def test_a_long_sentence_is_cut_at_words() -> None:
    text = " ".join(f"word{i}" for i in range(300))
    start, end = best_quote(text, [["word200"]])
    assert "word200" in text[start:end].split()
    assert end - start <= MAX_QUOTE


@given(
    st.text(alphabet=st.sampled_from("ab.。! \n犬É1[]\u00a0"), min_size=1, max_size=900).filter(lambda t: t.strip()),
    st.lists(st.lists(st.sampled_from(["a", "b", "ab", "犬", "1"])), max_size=3),
)
def test_quotes_are_bounded_and_trimmed(text: str, claims: list[list[str]]) -> None:
    start, end = best_quote(text, claims)
    assert 0 <= start < end <= len(text)
    assert end - start <= MAX_QUOTE
    assert text[start:end] == text[start:end].strip()


@given(st.text(max_size=400))
def test_sentences_hold_all_that_is_not_space(text: str) -> None:
    spans = sentence_spans(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(a < b for a, b in spans)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
