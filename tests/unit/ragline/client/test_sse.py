"""The decoder gives the same events however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.client.sse import MAX_EVENT_BYTES, SseDecoder, SseEvent

STREAM = (
    "\ufeff: hello\n"
    "event: started\ndata: {}\n\n"
    ": hb\n"
    "id: 0.5.1\r\nevent: delta\r\ndata: größer 😀\r\n\r\n"
    ": hb\n: hb\n"
    "id: 0.9.1\revent: delta\rdata: line one\rdata:line two\rdata\r\r"
    "retry: 100\nunknown: field\nid: with\0nul\n\n"
    "data: no name\n\n"
    "id\nevent: completed\ndata: {}\n\n"
    "data: never finished\n"
).encode()
EVENTS = [
    SseEvent("started", "{}", ""),
    SseEvent("delta", "größer 😀", "0.5.1"),
    SseEvent("delta", "line one\nline two\n", "0.9.1"),
    SseEvent("message", "no name", "0.9.1"),
    SseEvent("completed", "{}", ""),
]


def _decode(pieces: list[bytes]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_whole() -> None:
    assert _decode([STREAM]) == EVENTS


def test_byte_by_byte() -> None:
    assert _decode([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert _decode([STREAM[a:b] for a, b in itertools.pairwise(edges)]) == EVENTS


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_decode_alike_in_one_or_two_pieces(raw: bytes, at: int) -> None:
    assert _decode([raw]) == _decode([raw[:at], raw[at:]])


def test_goes_on_from_an_id() -> None:
    decoder = SseDecoder("0.5.1")
    assert list(decoder.feed(b"data: x\n\n")) == [SseEvent("message", "x", "0.5.1")]
    assert decoder.last_event_id == "0.5.1"


def test_an_id_counts_once_its_event_is_whole() -> None:
    decoder = SseDecoder("1")
    list(decoder.feed(b"id: 2\ndata: x\n"))
    assert decoder.last_event_id == "1"
    list(decoder.feed(b"\n"))
    assert decoder.last_event_id == "2"


def test_an_endless_line_is_refused() -> None:
    decoder = SseDecoder()
    with pytest.raises(ValueError, match="an event of more than"):
        list(decoder.feed(b"data: " + b"x" * MAX_EVENT_BYTES))
