"""What counts as something that a document says."""

from __future__ import annotations

import pytest

from consumers.documents.passages import PassageDraft
from consumers.documents.reading import Reading


def reading(*texts: str) -> Reading:
    passages = [PassageDraft(n, text, None, 0, len(text), (), 1, "") for n, text in enumerate(texts)]
    return Reading("\n".join(texts), "text/plain", 0, passages)


@pytest.mark.parametrize("text", ["a", "7", "é", "東", "ا", "अ", "[[٣]]", "½", "🙂 b"])
def test_a_letter_or_a_digit_of_any_script_is_enough(text: str) -> None:
    assert reading("[[[", text, "]]]").has_words


@pytest.mark.parametrize("texts", [(), ("[[[", "]]]"), ("-- … ***",), ("🙂",), ("___",)])
def test_signs_alone_say_nothing(texts: tuple[str, ...]) -> None:
    assert not reading(*texts).has_words
