"""The committed contracts are those of the code; what would break a reader or a client says so."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from schemas import contracts
from schemas.compatibility import broken_records, broken_routes
from schemas.feed import PUBLIC_TOPICS
from schemas.topics import BY_NAME, TOPICS
from tests.contract import http_api

DOCUMENT = contracts.committed()
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def test_no_change_of_a_record_breaks_a_reader() -> None:
    broken = broken_records(DOCUMENT, contracts.document())
    assert not broken, "\n".join(broken)


def test_the_committed_documents_of_the_log_are_those_of_the_registry() -> None:
    committed = {path.name: orjson.loads(path.read_bytes()) for path in contracts.FOLDER.glob("*.json")}
    wanted = {name: orjson.loads(content) for name, content in contracts.files().items()}
    differ = sorted(name for name in committed.keys() | wanted.keys() if committed.get(name) != wanted.get(name))
    if contracts.document() != DOCUMENT:
        differ.append(contracts.ASYNCAPI.name)
    assert not differ, f"{', '.join(differ)} in schemas/ is out of date: run `{contracts.REGENERATE}` and commit"


async def test_no_change_of_the_http_api_breaks_a_client() -> None:
    wanted = await http_api.document()
    broken = broken_routes(http_api.committed(), wanted)
    assert not broken, "\n".join(broken)
    assert wanted == http_api.committed(), (
        f"schemas/openapi.json is out of date: run `.venv/bin/{http_api.REGENERATE}` and commit"
    )


def test_the_document_shows_the_whole_registry() -> None:
    assert DOCUMENT["channels"].keys() == BY_NAME.keys()
    shown = {
        (operation["channel"]["$ref"].rpartition("/")[2], operation["action"], operation["x-service"])
        for operation in DOCUMENT["operations"].values()
    }
    assert shown == {(t.name, "send", p) for t in TOPICS for p in t.producers} | {
        (t.name, "receive", c) for t in TOPICS for c in t.consumers
    }
    for topic in TOPICS:
        channel = DOCUMENT["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        assert (channel["address"], kafka["partitions"], channel["x-key"]) == (topic.name, topic.partitions, topic.key)
        assert kafka["topicConfiguration"].get("retention.ms", -1) == topic.retention_ms
        assert channel["messages"].keys() == topic.kept.keys()
        assert channel["x-public"] == (topic in PUBLIC_TOPICS)


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_example_is_as_its_schemas_say(kind: str) -> None:
    message = MESSAGES[kind]
    for what in ("headers", "payload"):
        validator = Draft202012Validator({**message[what], "components": DOCUMENT["components"]})
        for example in message["examples"]:
            validator.validate(example[what])
            assert not validator.is_valid({**example[what], next(iter(example[what])): ["of another type"]})
