"""Golden payloads decode for ever; every registered record has one; bad records get the right dead-letter reason."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from pydantic import ValidationError

from schemas.chunks import AttemptOpened
from schemas.envelope import decode
from schemas.errors import DeadLetter
from schemas.topics import BY_NAME, CHAT_CHUNKS, MAX_RECORD_BYTES, TOPICS, Topic
from tests.golden import Golden, golden

CE_TYPE = re.compile(r"ragline\.([a-z]+\.)?[a-z]+(_[a-z]+)*\.v[1-9][0-9]*")
CE_REQUIRED = {"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "ce_tenantid"}


GOLDEN = golden()
each_example = pytest.mark.parametrize("example", GOLDEN, ids=[example.name for example in GOLDEN])
each_topic = pytest.mark.parametrize("topic", TOPICS, ids=[topic.name for topic in TOPICS])
ONE = next(example for example in GOLDEN if example.name == AttemptOpened.ce_type)
CHUNK_VALUE = ONE.raw_value


def test_every_registered_record_has_an_example_on_each_of_its_topics() -> None:
    registered = {(topic.name, ce_type) for topic in TOPICS for ce_type in topic.kept}
    missing = registered - {(example.topic.name, example.kind) for example in GOLDEN}
    assert not missing, f"write schemas/examples/<ce_type>.json for {sorted(missing)}"


@each_example
def test_an_example_decodes_and_what_it_says_stays(example: Golden) -> None:
    envelope = example.decoded()
    assert example.name.startswith(example.kind)
    if envelope.body.ce_type == example.kind:  # else it is read as a newer version
        assert _is_within(example.value, orjson.loads(envelope.body.encode()))
        assert {name: raw.decode("ascii") for name, raw in envelope.headers()} == example.headers


def _is_within(old: object, new: object) -> bool:
    """Whether all of `old` stands in `new` too; fields that came later may stand beside it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _is_within(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_within, old, new))
    return old == new


def test_every_field_of_a_record_is_shown() -> None:
    hidden = {
        example.name: set(example.model.model_fields) - {name for other in _alike(example) for name in other.value}
        for example in GOLDEN
    }
    assert not any(hidden.values()), (
        "a golden payload is never changed; write another one that has the new field, <ce_type>.<what is new>.json"
    )


def _alike(example: Golden) -> list[Golden]:
    return [other for other in GOLDEN if other.headers["ce_type"] == example.kind]


def test_no_two_examples_are_the_same_record() -> None:
    assert len({example.headers["ce_id"] for example in GOLDEN}) == len(GOLDEN)


@each_example
def test_headers_are_cloudevents_in_binary_mode(example: Golden) -> None:
    headers = example.headers
    assert headers.keys() >= CE_REQUIRED
    assert headers["ce_specversion"] == "1.0"
    assert headers["content-type"] == "application/json"
    assert all(value.isascii() for value in headers.values())
    assert all(re.fullmatch(r"ce_[a-z0-9]{1,20}|content-type|traceparent", name) for name in headers)
    assert datetime.fromisoformat(headers["ce_time"]).tzinfo is not None
    assert headers["ce_subject"] == example.decoded().body.key()


@each_example
def test_an_unknown_field_is_ignored_by_consumers_and_refused_to_producers(example: Golden) -> None:
    newer = {**example.value, "of_a_later_version": {"x": [1]}}
    assert decode(example.topic, example.raw_headers, orjson.dumps(newer)).body == example.decoded().body
    with pytest.raises(ValidationError, match="of_a_later_version"):
        example.model.model_validate_json(orjson.dumps(newer))


@each_example
def test_a_body_is_frozen(example: Golden) -> None:
    body = example.decoded().body
    with pytest.raises(ValidationError, match="frozen"):
        setattr(body, next(iter(type(body).model_fields)), None)


@each_topic
def test_a_topic_is_coherent(topic: Topic) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+\.v[1-9][0-9]*", topic.name)
    assert topic.dead_letter_topic == f"{topic.name}.dlq"
    assert BY_NAME[topic.name] is topic
    assert topic.partitions > 0
    assert topic.records
    assert topic.producers
    assert len(topic.by_type) == len(topic.records), "two records of one topic share a ce_type"
    assert len(topic.kept.keys() - topic.by_type.keys()) + len(topic.records) == len(topic.kept)
    for n, step in enumerate(topic.upcasters):
        assert step.new.ce_type in topic.kept, "an upcaster leads to a record of its topic"
        assert step.old.ce_type not in {later.new.ce_type for later in topic.upcasters[n:]}, "oldest first, no circle"
    assert topic.segment_ms is None or topic.segment_ms < topic.retention_ms
    settings = topic.settings()
    assert settings["max.message.bytes"] == str(MAX_RECORD_BYTES)
    assert (topic.cleanup == "compact") == (topic.retention_ms < 0) == ("retention.ms" not in settings)
    for ce_type, record in topic.by_type.items():
        assert CE_TYPE.fullmatch(ce_type), f"{record.__name__}: {ce_type!r} is not ragline.<area>.<name>.v<n>"


def test_topic_names_are_unique() -> None:
    assert len(BY_NAME) == len(TOPICS)


def test_one_ce_type_names_one_body() -> None:
    pairs = {(ce_type, record) for topic in TOPICS for ce_type, record in topic.by_type.items()}
    assert len(pairs) == len({ce_type for ce_type, _ in pairs})


KEY_FIELDS = {
    "session id": "session_id",
    "completion id": "completion_id",
    "document id": "document_id",
    "tenant id": "tenant_id",
}


@each_example
def test_a_record_is_keyed_as_its_topic_says(example: Golden) -> None:
    key, value = example.decoded().body.key(), example.value
    if example.topic.key == "<kind>:<id>":
        assert re.fullmatch(r"(key|user|limit|setting):[0-9a-f-]{36}", key)
    else:
        assert key == value.get(KEY_FIELDS[example.topic.key], value.get("subject"))


Raw = list[tuple[str, bytes | None]]


def _without(name: str) -> Raw:
    return [pair for pair in ONE.raw_headers if pair[0] != name]


def _with(name: str, value: bytes | None) -> Raw:
    return [*_without(name), (name, value)]


BAD_HEADERS: dict[str, tuple[Raw, str]] = {
    "null header": (_with("ce_id", None), "bad_header"),
    "null header of another": (_with("x-other", None), "bad_header"),
    "not UTF-8": (_with("ce_source", b"\xff\xfe"), "bad_header"),
    "not ASCII": (_with("ce_source", "Zürich".encode()), "bad_header"),
    "id is no UUID": (_with("ce_id", b"17"), "bad_header"),
    "tenant is no UUID": (_with("ce_tenantid", b""), "bad_header"),
    "user is no UUID": (_with("ce_userid", b"ada"), "bad_header"),
    "cause is no UUID": (_with("ce_causationid", b"-"), "bad_header"),
    "time is no time": (_with("ce_time", b"yesterday"), "bad_header"),
    "no type": (_without("ce_type"), "missing_header"),
    "no id": (_without("ce_id"), "missing_header"),
    "no tenant": (_without("ce_tenantid"), "missing_header"),
    "no time": (_without("ce_time"), "missing_header"),
    "no headers": ([], "missing_header"),
    "unknown type": (_with("ce_type", b"ragline.chat.attempt_opened.v99"), "unknown_type"),
    "type of another topic": (_with("ce_type", b"ragline.chat.post_message.v1"), "unknown_type"),
}


@pytest.mark.parametrize(("headers", "reason"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_bad_headers_are_dead_letters(headers: Raw, reason: str) -> None:
    with pytest.raises(DeadLetter) as caught:
        decode(CHAT_CHUNKS, headers, CHUNK_VALUE)
    assert caught.value.reason == reason
    assert caught.value.detail


def _value(**changed: object) -> bytes:
    return orjson.dumps({**ONE.value, **changed})


BAD_BODIES: dict[str, tuple[bytes | None, str]] = {
    "null": (None, "empty_body"),
    "empty": (b"", "empty_body"),
    "oversized": (CHUNK_VALUE + b" " * MAX_RECORD_BYTES, "oversized"),
    "not JSON": (b"attempt=1", "malformed_body"),
    "cut short": (CHUNK_VALUE[:-5], "malformed_body"),
    "two bodies": (CHUNK_VALUE + CHUNK_VALUE, "malformed_body"),
    "not UTF-8": (CHUNK_VALUE.replace(b"attempt", b"\xff"), "malformed_body"),
    "a list": (b"[]", "malformed_body"),
    "JSON null": (b"null", "malformed_body"),
    "a lone high surrogate": (CHUNK_VALUE[:-1] + b',"x":"\\ud83d"}', "malformed_body"),
    "a lone low surrogate": (CHUNK_VALUE[:-1] + b',"x":"\\udd25"}', "malformed_body"),
    "deep lists": (b"[" * 100_000, "malformed_body"),
    "deep objects in an unknown field": (
        CHUNK_VALUE[:-1] + b',"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        "malformed_body",
    ),
    "a number without end": (CHUNK_VALUE[:-1] + b',"x":1' + b"0" * 10_000 + b"}", "malformed_body"),
    "a missing field": (orjson.dumps({"attempt": 1}), "malformed_body"),
    "a wrong type": (_value(attempt="many"), "malformed_body"),
    "a null field": (_value(completion_id=None), "malformed_body"),
}


@pytest.mark.parametrize(("value", "reason"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_bodies_are_dead_letters(value: bytes | None, reason: str) -> None:
    with pytest.raises(DeadLetter) as caught:
        decode(CHAT_CHUNKS, ONE.raw_headers, value)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 1_000


def test_a_repeated_attribute_is_a_dead_letter() -> None:
    with pytest.raises(DeadLetter):
        decode(CHAT_CHUNKS, [*ONE.raw_headers, ("ce_tenantid", str(UUID(int=1)).encode())], CHUNK_VALUE)


def test_a_dead_letter_names_the_field() -> None:
    with pytest.raises(DeadLetter, match=r"attempt_opened.*attempt"):
        decode(CHAT_CHUNKS, ONE.raw_headers, _value(attempt="many"))


def test_a_time_without_zone_is_utc() -> None:
    envelope = decode(CHAT_CHUNKS, _with("ce_time", b"2026-11-21T09:30:15"), CHUNK_VALUE)
    assert envelope.time == datetime(2026, 11, 21, 9, 30, 15, tzinfo=UTC)


def test_what_follows_from_a_record_says_so() -> None:
    cause = ONE.decoded()
    fact = cause.caused(cause.body, source="ragline/test", time=cause.time)
    assert (fact.causation_id, fact.correlation_id) == (cause.id, cause.correlation_id)
    assert (fact.tenant_id, fact.user_id, fact.traceparent) == (cause.tenant_id, cause.user_id, cause.traceparent)
    assert fact.id != cause.id
