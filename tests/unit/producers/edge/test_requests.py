"""Bad input: each kind a clear 4xx that names the field and the limit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producers.edge.asgi import Disconnected, Message
from producers.edge.requests import Preference, idempotency_key, parse_json, path_id, preference, read_body, read_json
from schemas.errors import Reject
from schemas.http import NewMessage, NewSession

JSON = {b"content-type": b"application/json"}


def refused(body: bytes | dict[str, Any]) -> Reject:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Reject) as caught:
        parse_json(raw, NewMessage)
    return caught.value


@pytest.mark.parametrize(
    ("body", "status", "code", "field", "limit"),
    [
        (b"{", 400, "invalid_json", None, None),
        (b"", 400, "invalid_json", None, None),
        (b'{"content": "\xff"}', 400, "invalid_json", None, None),
        (b"[" * 100_000, 400, "invalid_json", None, None),
        (b'{"content": ' + b"9" * 5_000 + b"}", 400, "invalid_json", None, None),
        (b"[]", 422, "invalid_field", "body", None),
        ({}, 422, "invalid_field", "content", None),
        ({"content": ""}, 422, "invalid_field", "content", None),
        ({"content": " \n"}, 422, "invalid_field", "content", None),
        ({"content": 7}, 422, "invalid_field", "content", None),
        ({"content": None}, 422, "invalid_field", "content", None),
        ({"content": "x" * 100_001}, 422, "invalid_field", "content", 100_000),
        ({"content": "a\x00b"}, 422, "invalid_field", "content", None),
        ({"content": "a\ud800b"}, 422, "invalid_field", "content", None),
        ({"content": "a", "model": "\udfff"}, 422, "invalid_field", "model", None),
        ({"content": "a", "document_ids": ["b"]}, 422, "invalid_field", "document_ids.0", None),
        ({"content": "a", "temperature": 3}, 422, "invalid_field", "temperature", 2),
        ({"content": "a", "temperature": "1"}, 422, "invalid_field", "temperature", None),
        ({"content": "a", "temperature": float("nan")}, 422, "invalid_field", "temperature", None),
        ({"content": "a", "max_tokens": 0}, 422, "invalid_field", "max_tokens", 1),
        ({"content": "a", "max_tokens": 10**30}, 422, "invalid_field", "max_tokens", 1_000_000),
        ({"content": "a", "if_busy": "wait"}, 422, "invalid_field", "if_busy", None),
        ({"content": "a", "parent_id": "b"}, 422, "invalid_field", "parent_id", None),
        ({"content": "a", "colour": "red"}, 422, "unknown_field", "colour", None),
    ],
)
def test_a_bad_body_is_refused_by_name(
    body: bytes | dict[str, Any], status: int, code: str, field: str | None, limit: int | None
) -> None:
    error = refused(body)
    assert (error.status, error.code, error.field, error.extra.get("limit")) == (status, code, field, limit)


def test_the_longest_content_counts_code_points() -> None:
    assert len(parse_json(json.dumps({"content": "🦊" * 100_000}).encode(), NewMessage).content) == 100_000


def receive_of(*chunks: bytes, cut: bool = False) -> Any:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})
    pending = iter(messages)

    async def receive() -> Message:
        return next(pending)

    return receive


async def test_a_body_is_read_to_its_limit_and_no_further() -> None:
    assert await read_body(receive_of(b"ab", b"cd"), {}, 4) == b"abcd"
    with pytest.raises(Reject) as caught:
        await read_body(receive_of(b"ab", b"cde"), {}, 4)
    assert (caught.value.status, caught.value.extra["limit"]) == (413, 4)
    with pytest.raises(Reject, match="at most 4 bytes"):
        await read_body(receive_of(), {b"content-length": b"5"}, 4)


async def test_a_body_cut_short_is_nobodys() -> None:
    with pytest.raises(Disconnected):
        await read_body(receive_of(b"ab", cut=True), {}, 10)


async def test_the_content_type_must_be_json() -> None:
    with pytest.raises(Reject) as caught:
        await read_json(receive_of(b"{}"), {b"content-type": b"text/plain"}, NewSession, limit_bytes=10)
    assert caught.value.status == 415
    assert await read_json(receive_of(), {}, NewSession, limit_bytes=10, may_be_empty=True) == NewSession()
    assert await read_json(receive_of(b"{}"), JSON, NewSession, limit_bytes=10) == NewSession()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preference(5.0)),
        (b"wait=2", Preference(2.0, "wait=2")),
        (b"Wait=0", Preference(0.0, "wait=0")),
        (b"wait=99999999999999999999", Preference(60.0, "wait=60")),
        (b"wait=-1", Preference(5.0)),
        (b"wait=x", Preference(5.0)),
        (b"wait=\xb2", Preference(5.0)),
        (b"respond-async", Preference(0.0, "respond-async")),
        (b"respond-async, wait=3", Preference(0.0, "respond-async")),
        (b"handling=lenient, wait=3", Preference(3.0, "wait=3")),
        (b",,;=", Preference(5.0)),
    ],
)
def test_preferences(header: bytes | None, expected: Preference) -> None:
    assert preference({b"prefer": header} if header is not None else {}, 5.0) == expected


@pytest.mark.parametrize("key", [b"", b"a b", b"\xe9", b"x" * 256, b"a\x1fb"])
def test_a_malformed_idempotency_key_is_refused(key: bytes) -> None:
    with pytest.raises(Reject) as caught:
        idempotency_key({b"idempotency-key": key})
    assert (caught.value.status, caught.value.field) == (422, "Idempotency-Key")


@pytest.mark.parametrize("text", ["", "x", "{00000000-0000-0000-0000-000000000001}", "0" * 36, "0" * 32])
def test_what_is_no_id_names_nothing(text: str) -> None:
    with pytest.raises(Reject) as caught:
        path_id(text, "session")
    assert (caught.value.status, caught.value.code) == (404, "session_not_found")
