"""Server-sent events: their ids sort as they follow each other, and cutting one loses nothing."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.edge import frames
from producers.edge.frames import DELTA, RESET, TERMINAL, Ending, Position, event_id, parse_last_event_id
from schemas.errors import Reject
from schemas.events import Citation, ErrorInfo, TokenUsage

positions = st.tuples(st.integers(0, 999_999), st.integers(0, 10**10 - 1), st.sampled_from([RESET, DELTA, TERMINAL]))


@given(one=positions, other=positions)
def test_ids_sort_as_text(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    assert (event_id(*one) < event_id(*other)) == (one < other)


@given(epoch=st.integers(0, 999_999), end=st.integers(0, 10**10 - 1))
def test_an_id_tells_the_position(epoch: int, end: int) -> None:
    assert parse_last_event_id(event_id(epoch, end, DELTA).encode()) == Position(epoch, end)


@pytest.mark.parametrize("raw", [None, b""])
def test_without_an_id_a_reader_begins(raw: bytes | None) -> None:
    assert parse_last_event_id(raw) is None


@pytest.mark.parametrize(
    "raw", [b"x", b"0.0.1", b"000000.0000000000.3", b"000000.0000000005.0", b"000000.0000000000.1 ", b"\xb2" * 19]
)
def test_what_is_no_id_is_refused(raw: bytes) -> None:
    with pytest.raises(Reject) as caught:
        parse_last_event_id(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_last_event_id")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), data=st.data())
def test_a_delta_is_cut_at_code_points(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    whole = frames.delta(3, 1, 10, text)
    head, _, rest = frames.cut(whole, 1, 10 + at).partition(b"\ndata: ")
    assert orjson.loads(rest) == {"attempt": 3, "start": 10 + at, "end": 10 + len(text), "text": text[at:]}
    assert head.startswith(f"id: {event_id(1, whole.end, DELTA)}\n".encode())


def test_newlines_in_a_text_stay_on_the_line() -> None:
    assert frames.delta(1, 0, 0, "a\nb\r\n\u2028c").data.count(b"\n") == 4


def test_an_ending_tells_citations_usage_and_the_terminal_event_in_this_order() -> None:
    citation = Citation(document_id=UUID(int=9), version=1, page=2, start=0, end=3, quote="abc")
    ended = Ending(
        completion_id=UUID(int=1),
        message_id=UUID(int=2),
        epoch=0,
        end=5,
        status="failed",
        model="fast",
        finish_reason=None,
        citations=(citation,),
        usage=TokenUsage(input_tokens=1, output_tokens=2),
        error=ErrorInfo(code="boom", message="it broke"),
    )
    citations, usage, terminal, rest = frames.ending(ended).decode().split("\n\n")
    assert citations.startswith('event: citations\ndata: {"citations":[{"document_id":')
    assert usage.startswith('event: usage\ndata: {"input_tokens":1,')
    assert terminal.startswith("id: 000000.0000000005.2\nevent: failed\ndata: ")
    assert orjson.loads(terminal.rpartition("data: ")[2])["error"] == {"code": "boom", "message": "it broke"}
    assert rest == ""
