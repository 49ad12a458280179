"""The reference of what others build on: records from the registry, routes from the published OpenAPI document."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.records import Body
from schemas.topics import TOPICS, Topic

_HEAD = """# Topics and records

Every record is a CloudEvent in Kafka's binary mode: a JSON body in the value, and `ce_id`, `ce_type`, `ce_source`,
`ce_subject`, `ce_time`, `ce_tenantid`, `ce_correlationid`, `ce_causationid` and `traceparent` in the headers. Records
of one key stand in one partition, in order. JSON Schemas of the bodies stand in `schemas/jsonschema/`, an example
of each in `schemas/examples/`, and all of it as AsyncAPI 3 at `/asyncapi`. [How to subscribe](subscribe.md).
"""


def events_page() -> str:
    """`docs/events.md`."""
    parts = {name: part for topic in TOPICS for record in topic.records for name, part in _parts(record)}
    topics = "".join("\n".join(_topic(topic)) + "\n" for topic in TOPICS)
    return _HEAD + topics + "\n## Parts of records\n" + "".join(_part(name, parts[name]) for name in sorted(parts))


def _parts(record: type[Body]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from record.model_json_schema().get("$defs", {}).items()


def _part(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"\n### {name}\n\nOne of {_type(schema)}.\n"
    return "\n".join([f"\n### {name}\n", _first_line(schema.get("description", "")), *_fields(schema), ""])


def _topic(topic: Topic) -> Iterator[str]:
    yield f"\n## {topic.name}\n"
    readers = ", ".join(topic.consumers) or "nobody of Ragline's own"
    dead = f"; what cannot be processed goes to `{topic.dead_letter_topic}`" if topic.has_dead_letters else ""
    yield (
        f"Key: {topic.key}. Partitions: {topic.partitions}. Kept: {_kept(topic)}."
        f" Written by {', '.join(topic.producers)}; read by {readers}{dead}."
    )
    for record in topic.records:
        yield from _record(record)


def _kept(topic: Topic) -> str:
    if topic.cleanup == "compact":
        return "the newest of each key"
    hours = topic.retention_ms // 3_600_000
    return f"{hours // 24} days" if hours >= 24 else f"{hours} h"


def _record(record: type[Body]) -> Iterator[str]:
    yield f"\n### {record.__name__}\n"
    yield f"`{record.ce_type}`: {_first_line(inspect.cleandoc(record.__doc__ or ''))}"
    yield from _fields(record.model_json_schema())


def _first_line(text: str) -> str:
    return text.split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    yield "\n| field | type | |\n|---|---|---|"
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        optional = "" if name in required else " (optional)"
        yield f"| `{name}`{optional} | {_type(field)} | {field.get('description', '')} |"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(kind) for kind in field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        items: dict[str, Any] = field.get("items") or next(iter(field.get("prefixItems", ())), {})
        return f"list of {_type(items)}"
    return str(field.get("format") or field.get("type") or "any")


_OPENAPI = Path(__file__).absolute().parents[2] / "schemas" / "openapi.json"
_HTTP_HEAD = """# HTTP

The native API; `/docs` of a running edge shows the same with forms to try it. Every route below `/api/v1` needs
`Authorization: Bearer KEY`. Bodies are JSON, and a field that is not described here is refused. Lists are
`{"items": […], "next_cursor": …}` and take `cursor` and `limit` (at most 200). Every POST that writes takes an
`Idempotency-Key`: the same request under the same key joins the first and gets its answer. A POST waits for its effect,
5 s at most (`Prefer: wait=N`, `Prefer: respond-async`). What is wrong is answered with a [Problem](#problem), whose
`code` is stable ([requests that make no sense](bad-input.md)).
"""


def http_page() -> str:
    """`docs/http.md`."""
    document = json.loads(_OPENAPI.read_text())
    lines = [_HTTP_HEAD]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _route(f"{method.upper()} {path}", operation)
    lines.append("\n## Shapes")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines.append(_part(name, schema).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _route(title: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n## `{title}`\n"
    yield operation.get("description") or f"{operation['summary']}."
    asked = [f"`{name['name']}` ({_type(name['schema'])})" for name in operation.get("parameters", ())]
    if asked:
        yield f"\nParameters: {', '.join(asked)}."
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"\nBody, `{media}`: {_shape(content.get('schema', {}))}."
    answers = [
        " ".join([status, *(_shape(shown.get("schema", {})) for shown in answer.get("content", {}).values())])
        for status, answer in operation["responses"].items()
        if status != "default"
    ]
    yield f"\nAnswer: {'; '.join(answers)}."


def _shape(schema: dict[str, Any]) -> str:
    name = _type(schema)
    return f"[{name}](#{name.lower()})" if "$ref" in schema else name
