from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sentences import sentences
from providers.terms import stem, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.14 dollars, e.g. here. Next.", ["It costs 3.14 dollars, e.g. here.", "Next."]),
        ("Dr. Smith et al. found it. A. Gal wrote it.", ["Dr. Smith et al. found it.", "A. Gal wrote it."]),
        (
            "Das ist z. B. ein Test, d.h. ca. 3 km. Mehr nicht.",
            ["Das ist z. B. ein Test, d.h. ca. 3 km.", "Mehr nicht."],
        ),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("最初の文です。次の文ですか？「はい。」", ["最初の文です。", "次の文ですか？", "「はい。」"]),
        ("첫 문장입니다. 두 번째는 3.5초 걸립니다.", ["첫 문장입니다.", "두 번째는 3.5초 걸립니다."]),
        (
            "a line that is wrapped and com-\npiled with the next one. End.",
            ["a line that is wrapped and compiled with the next one.", "End."],
        ),
        ("# Heading\n\nText under it.", ["Heading", "Text under it."]),
        ("- first item\n- second item", ["first item", "second item"]),
        ("Figure 1. What it shows.", ["Figure 1. What it shows."]),
        ("k = i + i and so on.", ["k = i + i and so on."]),
        ("これは行の途中で折り返\nされた日本語の文です。", ["これは行の途中で折り返された日本語の文です。"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_headings_and_labels_do_not_run_into_the_text() -> None:
    text = (
        "hot\nloop/exit\n2. Overview of the system\n"
        "The monitor counts how often each loop edge is crossed while the program is\n"
        "running in the interpreter, and then it begins to record the instructions of\n"
        "the loop.\nFurther work"
    )
    found = sentences(text)
    assert any(s.startswith("The monitor counts") and s.endswith("the loop.") for s in found)
    assert "2. Overview of the system" in found
    assert "Further work" in found


@given(text=st.text(max_size=400) | st.text("ab. \n-。!?#1\u00ad[]", max_size=400))
def test_nothing_but_white_space_hyphens_and_bullets_is_lost(text: str) -> None:
    marks = "-\u00ad•◦▪‣·*+–#>|"
    found = sentences(text)
    assert all(s and s == s.strip() and "\n" not in s for s in found)

    def letters(value: str) -> str:
        return "".join(c for c in value if not c.isspace() and c not in marks)

    assert letters("".join(found)) == letters(text)


def test_text_without_an_end_is_cut_into_bounded_pieces() -> None:
    assert max(len(s) for s in sentences("word " * 10_000)) <= 700
    assert max(len(s) for s in sentences("x" * 10_000)) <= 700


def test_forms_of_a_word_meet() -> None:
    assert len({stem(w) for w in ("compile", "compiled", "compiles", "compiler", "compiling", "compilation")}) == 1
    assert stem("loops") == stem("loop")
    assert stem("2024") == "2024"


def test_terms_leave_out_stopwords_and_accents() -> None:
    assert terms("Wie ist die Straße?") == terms("STRASSE")
    assert terms("café") == terms("cafe")
    assert terms("東京都") == ["東京", "京都"]
    assert terms("how is it") == []
