"""What others wrote moves no cursor and hides nothing."""

from __future__ import annotations

import pytest

from ragline.cli.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 語 👩‍👩‍👧 שלום.txt", "Größe 語 👩‍👩‍👧 שלום.txt"),
        ("a\x1b]0;title\x07b\x9b31m", "a\\x1b]0;title\\x07b\\x9b31m"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("caf\udce9.txt", "caf\\udce9.txt"),
    ],
)
def test_names(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()


def test_what_a_text_may_have_is_kept() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
