from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.markers import markers, without_markers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("One [1]. Two [2][3].", [(1,), (2,), (3,)]),
        ("Both [1, 2] and [3;4] and [5、6].", [(1, 2), (3, 4), (5, 6)]),
        ("A range [2-4] or [2–4].", [(2, 3, 4), (2, 3, 4)]),
        ("Turned round [4-2].", [(4,)]),
        ("日本語です【1】。［2］", [(1,), (2,)]),
        ("word[7]", [(7,)]),
        ("none: [a], [], [1a], [1234], (1), [1", []),
        ("code `a[1]` and\n```c\nb[2];\n``` but [3]", [(3,)]),
        ("```\nunclosed [1]", []),
        ("a link [1](https://example.org) but [2](see there)", [(2,)]),
        ("[1-999]", [tuple(range(1, 52))]),
    ],
)
def test_what_is_a_marker(text: str, numbers: list[tuple[int, ...]]) -> None:
    assert [marker.numbers for marker in markers(text)] == numbers


def test_text_without_its_markers() -> None:
    assert without_markers("One [1]. Two [2][3], `a[4]` three.[5]") == "One. Two, `a[4]` three."


@given(st.text(alphabet="[]【】123,–- `\nab(", max_size=60))
def test_positions(text: str) -> None:
    end = 0
    for marker in markers(text):
        assert end <= marker.start < marker.end <= len(text)
        assert text[marker.start] in "[【［"
        assert text[marker.end - 1] in "]】］"
        end = marker.end
