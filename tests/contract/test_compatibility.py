"""A contract that is broken on purpose says which record, which field, who breaks, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
from pydantic import create_model

from schemas import contracts
from schemas.commands import SessionCommand, SetFavorite
from schemas.compatibility import broken_records, broken_routes
from schemas.events import CompletionRequested, SessionEvent, SessionRenamed
from schemas.records import Body
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS, TOPICS, Topic
from schemas.upcasters import Upcaster
from tests.contract import http_api

Json = dict[str, Any]


def _with(changed: Topic, topics: Sequence[Topic] = TOPICS) -> list[Topic]:
    return [changed if topic.name == changed.name else topic for topic in topics]


def _broken(record: type[Body], changed: type[Body]) -> list[str]:
    """What breaks if `changed` stands where `record` stood."""
    topic = next(topic for topic in TOPICS if record in topic.records)
    return broken_records(contracts.committed(), contracts.document(_with(_replaced(topic, record, changed))))


def _replaced(topic: Topic, record: type[Body], changed: type[Body]) -> Topic:
    """The topic with `changed` under the name of `record`."""
    named = create_model(record.__name__, __base__=changed)
    return replace(topic, records=tuple(named if one is record else one for one in topic.records))


SUBSCRIBERS = (
    "subscribers outside (of chat.events.v1) and our own consumers (completions, edge, message_search) of the release"
    " that runs during a deploy, who read by the old schema"
)
OURS = (
    "our own consumers (completions, edge, message_search), which cannot decode what stands in chat.events.v1 any more"
)
BACK = "Put it back, or "
V2 = "make a ragline.chat.session_renamed.v2 beside it, with an upcaster (docs/subscribe.md, New versions)."


class _Renamed(SessionRenamed):
    """A chat got a name; `automatic` when it came from its first message."""


class _FieldGone(SessionEvent):
    ce_type: ClassVar[str] = SessionRenamed.ce_type
    automatic: bool = False


class _FieldRequired(SessionRenamed):
    automatic: bool


class _FieldOptional(SessionRenamed):
    name: str | None = None  # type: ignore[assignment]


class _FieldAdded(SessionRenamed):
    color: str


class _FieldOfAnotherType(SessionRenamed):
    name: int  # type: ignore[assignment]


class _FieldOfAnotherDefault(SessionRenamed):
    automatic: bool = True


RECORDS: dict[str, tuple[type[Body], list[str]]] = {
    "a field is gone": (_FieldGone, [f"`name` is gone. That breaks {SUBSCRIBERS}. Put it back, or {V2}"]),
    "a field became required": (
        _FieldRequired,
        [f"`automatic` was optional and is required. That breaks {OURS}. Put it back, or {V2}"],
    ),
    "a field became optional": (
        _FieldOptional,
        [
            f"`name` was always there and is optional. That breaks {SUBSCRIBERS}. Put it back, or {V2}",
            f"`name` may be null now. That breaks {SUBSCRIBERS}. Put it back, or {V2}",
        ],
    ),
    "a required field is new": (
        _FieldAdded,
        [f"`color` is new and required. That breaks {OURS}. Give it a default, or {V2}"],
    ),
    "a field is left out and means something else": (
        _FieldOfAnotherDefault,
        [f"`automatic` means true where it is left out, and meant false. That breaks {SUBSCRIBERS}. {BACK}{V2}"],
    ),
    "a field changed its type": (
        _FieldOfAnotherType,
        [
            f"`name` was string and is integer. That breaks {OURS}. Put it back, or {V2}",
            f"`name` was string and is integer. That breaks {SUBSCRIBERS}. Put it back, or {V2}",
        ],
    ),
}


@pytest.mark.parametrize(("changed", "sentences"), RECORDS.values(), ids=RECORDS.keys())
def test_a_record_that_breaks_its_readers(changed: type[Body], sentences: list[str]) -> None:
    start = "SessionRenamed (ragline.chat.session_renamed.v1): field "
    assert _broken(SessionRenamed, changed) == [start + sentence for sentence in sentences]


def test_a_field_that_may_be_left_out_breaks_nobody() -> None:
    class Later(SessionRenamed):
        color: str | None = None

    assert _broken(SessionRenamed, _Renamed) == []
    assert _broken(SessionRenamed, Later) == []
    assert contracts.document(_with(_replaced(CHAT_EVENTS, SessionRenamed, Later))) != contracts.committed()


class _MoreValues(SessionCommand):
    ce_type: ClassVar[str] = "ragline.chat.set_favorite.v1"
    is_favorite: Literal["yes", "no", "maybe"]


class _FewerValues(SessionCommand):
    ce_type: ClassVar[str] = "ragline.chat.set_favorite.v1"
    is_favorite: Literal["yes"]


class _Values(SessionCommand):
    ce_type: ClassVar[str] = "ragline.chat.set_favorite.v1"
    is_favorite: Literal["yes", "no"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            _MoreValues,
            "may be 'maybe' now. That breaks our own consumers (transcript) of the release that runs during a deploy,",
        ),
        (
            _FewerValues,
            "may not be 'no' any more. That breaks our own consumers (transcript), which cannot decode what stands in",
        ),
    ],
)
def test_an_enumeration_of_a_command(changed: type[Body], sentence: str) -> None:
    old, new = (contracts.document(_with(_replaced(CHAT_COMMANDS, SetFavorite, one))) for one in (_Values, changed))
    [broken] = broken_records(old, new)
    assert sentence in broken


def test_a_change_deep_inside_names_its_place() -> None:
    new = contracts.document()
    del new["components"]["schemas"]["Generation"]["properties"]["temperature"]
    broken = broken_records(contracts.committed(), new)
    named = {sentence.partition(" is gone")[0] for sentence in broken}
    assert f"CompletionRequested ({CompletionRequested.ce_type}): field `generation.temperature`" in named
    assert len(named) == 4, "it stands in four records"


@pytest.mark.parametrize(
    ("path", "name", "value", "sentence"),
    [
        ("Citation", "page", {"type": "integer"}, "field `citations[].page` may not be null any more"),
        ("UsageRecorded", "attempt", {"type": "number"}, "field `attempt` may have a fraction now"),
        ("AddDocument", "size_bytes", {"type": "integer", "minimum": 1}, "`size_bytes` has minimum 1, had 0"),
        ("AddDocument", "tags", {"type": "array", "items": {"type": "integer"}}, "`tags[]` was string and is integer"),
        ("AddDocument", "sha256", {"type": "string", "pattern": "x"}, "`sha256` has pattern x, had ^[0-9a-f]{64}$"),
    ],
)
def test_what_else_may_change(path: str, name: str, value: Json, sentence: str) -> None:
    new = contracts.document()
    new["components"]["schemas"][path]["properties"][name] = value
    broken = broken_records(contracts.committed(), new)
    assert broken
    assert all(sentence in one for one in broken)


def test_a_record_that_is_gone_or_reads_on_as_a_newer_version() -> None:
    class SessionRenamedV2(SessionRenamed):
        ce_type: ClassVar[str] = "ragline.chat.session_renamed.v2"
        title: str

    gone = replace(CHAT_EVENTS, records=tuple(one for one in CHAT_EVENTS.records if one is not SessionRenamed))
    [sentence] = broken_records(contracts.committed(), contracts.document(_with(gone)))
    assert sentence.startswith(
        "SessionRenamed (ragline.chat.session_renamed.v1) is gone from chat.events.v1. That breaks"
    )
    assert "subscribers outside" in sentence
    assert "Put it back, or keep the class and add an upcaster to what replaces it (Topic.upcasters)." in sentence
    step = Upcaster(SessionRenamed, SessionRenamedV2, lambda old: SessionRenamedV2(**dict(old), title=old.name))
    newer = replace(gone, records=(*gone.records, SessionRenamedV2), upcasters=(step,))
    document = contracts.document(_with(newer))
    assert broken_records(contracts.committed(), document) == []
    old = document["components"]["messages"][SessionRenamed.ce_type]
    assert old["x-superseded-by"] == SessionRenamedV2.ce_type


def test_a_golden_payload_stays() -> None:
    new = contracts.document()
    examples = new["components"]["messages"][SessionRenamed.ce_type]["examples"]
    examples.append(deepcopy(examples[0]))
    assert broken_records(contracts.committed(), new) == []
    for one in examples:
        one["payload"]["name"] = "easier"
    [sentence] = broken_records(contracts.committed(), new)
    assert sentence.startswith("SessionRenamed (ragline.chat.session_renamed.v1): a golden payload is changed or gone.")


def test_a_topic_that_is_gone_or_divided_anew() -> None:
    divided = replace(CHAT_EVENTS, partitions=24)
    [sentence] = broken_records(contracts.committed(), contracts.document(_with(divided)))
    assert sentence.startswith("Topic chat.events.v1: its partitions changed from 12 to 24. That breaks the order")
    [sentence] = broken_records(
        contracts.committed(), contracts.document([t for t in TOPICS if t is not CHAT_COMMANDS])
    )[:1]
    assert sentence.startswith("Topic chat.commands.v1 is gone. That breaks our own consumers (transcript)")


def test_a_topic_that_is_hidden_or_kept_shorter() -> None:
    new = contracts.document()
    new["channels"]["chat.events.v1"]["x-public"] = False
    [sentence] = broken_records(contracts.committed(), new)
    assert sentence == "Topic chat.events.v1 is not public any more. That breaks subscribers outside. Put it back."
    day_ms = 86_400_000
    [sentence] = broken_records(
        contracts.committed(), contracts.document(_with(replace(CHAT_EVENTS, retention_ms=day_ms)))
    )
    assert sentence.startswith("Topic chat.events.v1: its records were kept by")
    assert "That breaks subscribers outside (of chat.events.v1)" in sentence
    longer = contracts.document(_with(replace(CHAT_EVENTS, retention_ms=90 * day_ms)))
    assert broken_records(contracts.committed(), longer) == []
    compacted = contracts.document(_with(replace(CHAT_EVENTS, cleanup="compact")))
    assert len(broken_records(contracts.committed(), compacted)) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda headers: headers["properties"].pop("ce_causationid"), "`ce_causationid` of every record is gone."),
        (
            lambda headers: headers["required"].remove("ce_subject"),
            "`ce_subject` of every record was always there and is optional.",
        ),
    ],
)
def test_a_header_that_changes(change: Callable[[Json], object], says: str) -> None:
    new = contracts.document()
    change(new["components"]["schemas"]["CloudEventHeaders"])
    [sentence] = broken_records(contracts.committed(), new)
    assert sentence.startswith(f"Header {says} That breaks subscribers outside and our own consumers (")


def test_what_would_break_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    before = contracts.ASYNCAPI.read_bytes()
    changed = contracts.document(_with(_replaced(CHAT_EVENTS, SessionRenamed, _FieldAdded)))
    monkeypatch.setattr(contracts, "document", lambda: changed)
    with pytest.raises(SystemExit, match=r"Nothing was written:\nSessionRenamed .* field `color` is new and required"):
        contracts.write()
    assert contracts.ASYNCAPI.read_bytes() == before


POST_MESSAGE = "/api/v1/sessions/{session_id}/messages"


def _at(document: Json, *path: str) -> Any:
    for part in path:
        document = document[part]
    return document


def _drop_route(new: Json) -> None:
    del new["paths"][POST_MESSAGE]["post"]


def _drop_answer_field(new: Json) -> None:
    del new["components"]["schemas"]["Problem"]["properties"]["code"]


def _drop_request_field(new: Json) -> None:
    del new["components"]["schemas"]["NewMessage"]["properties"]["content"]


def _require_field(new: Json) -> None:
    new["components"]["schemas"]["NewSession"].setdefault("required", []).append("name")


def _narrow_values(new: Json) -> None:
    new["components"]["schemas"]["NewMessage"]["properties"]["if_busy"] = {"const": "queue", "type": "string"}


def _require_parameter(new: Json) -> None:
    parameters = new["paths"]["/api/v1/messages/search"]["get"]["parameters"]
    next(one for one in parameters if one["name"] == "limit")["required"] = True


def _drop_parameter(new: Json) -> None:
    search = new["paths"]["/api/v1/messages/search"]["get"]
    search["parameters"] = [one for one in search["parameters"] if one["name"] != "cursor"]


ROUTES: dict[str, tuple[Callable[[Json], None], str]] = {
    "a route is gone": (
        _drop_route,
        f"POST {POST_MESSAGE} is gone. That breaks every client that calls it. Put it back; an API ends with its /v1.",
    ),
    "a field of an answer is gone": (_drop_answer_field, "field `code` of answer default is gone. That breaks clients"),
    "a field of a request is gone": (
        _drop_request_field,
        f"POST {POST_MESSAGE}: the body's field `content` is gone. That breaks clients that send what was right until",
    ),
    "a field of a request is required": (
        _require_field,
        "POST /api/v1/sessions: the body's field `name` was optional and is required. That breaks clients",
    ),
    "a field of a request takes fewer values": (
        _narrow_values,
        f"POST {POST_MESSAGE}: the body's field `if_busy` may not be 'reject' any more. That breaks clients",
    ),
    "a parameter is required": (
        _require_parameter,
        "GET /api/v1/messages/search: query parameter `limit` is required. That breaks clients that do not send it",
    ),
    "a parameter is gone": (
        _drop_parameter,
        "GET /api/v1/messages/search: query parameter `cursor` is gone. That breaks clients that send it",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), ROUTES.values(), ids=ROUTES.keys())
def test_a_change_of_the_http_api_that_breaks_its_clients(change: Callable[[Json], None], sentence: str) -> None:
    new = deepcopy(http_api.committed())
    change(new)
    broken = broken_routes(http_api.committed(), new)
    assert any(sentence in one for one in broken), broken


def test_what_is_added_to_the_http_api_breaks_nobody() -> None:
    new = deepcopy(http_api.committed())
    new["paths"]["/api/v1/new"] = new["paths"]["/api/v1/sessions"]
    new["components"]["schemas"]["NewSession"]["properties"]["color"] = {"type": "string"}
    new["components"]["schemas"]["Problem"]["properties"]["hint"] = {"type": "string"}
    assert broken_routes(http_api.committed(), new) == []
