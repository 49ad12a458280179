from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from providers.clean_text import TextCleaner, clean

ANY_TEXT = st.text(st.characters() | st.sampled_from("\x00\ud83d\ude00\ud800\udfffa😀"))


@given(text=ANY_TEXT, cuts=st.lists(st.integers(0, 40)))
def test_any_split_gives_the_same_text(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    cleaner = TextCleaner()
    pieces = [cleaner.feed(text[a:b]) for a, b in pairwise(bounds)]
    assert "".join(pieces) + cleaner.flush() == clean(text)


@given(text=ANY_TEXT)
def test_the_result_is_well_formed_and_stays_as_it_is(text: str) -> None:
    result = clean(text)
    result.encode("utf-8")
    assert "\x00" not in result
    assert clean(result) == result


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_well_formed_text_is_not_touched(text: str) -> None:
    assert clean(text) == text


def test_each_defect_is_one_replacement_character() -> None:
    assert clean("a\x00b\ud83dc\ude00d\ud83d\ude00\ude00") == "a\ufffdb\ufffdc\ufffdd😀\ufffd"


def test_a_high_surrogate_is_held_back_until_its_pair() -> None:
    cleaner = TextCleaner()
    assert cleaner.feed("a\ud83d") == "a"
    assert cleaner.feed("") == ""
    assert cleaner.feed("\ude00b") == "😀b"
    assert cleaner.feed("\ud83d") == ""
    assert cleaner.flush() == "\ufffd"
    assert cleaner.flush() == ""
