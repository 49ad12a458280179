"""AsyncAPI 3.0 of the topics, made from the registry: channels, messages with CloudEvents headers, who sends and reads.

Committed as `schemas/asyncapi.json`, which the edge serves at `/asyncapi`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.feed import PUBLIC_TOPICS
from schemas.records import Body
from schemas.topics import MAX_RECORD_BYTES, TOPICS, Topic

Json = dict[str, Any]

_BINDING = "0.5.0"
_SCHEMAS = "#/components/schemas/{model}"
CE_HEADERS = "CloudEventHeaders"
_DESCRIPTION = """Ragline's records on Kafka: CloudEvents 1.0 in binary mode, a JSON body in the value, the attributes
in `ce_` headers. Channels with `x-public` are for subscribers; the others are between Ragline's own processes. Ignore
record types and fields that you do not know. Delivery is at least once; `ce_id` says what was read before."""


def asyncapi(topics: Sequence[Topic] = TOPICS, *, examples: Mapping[str, Sequence[Json]] | None = None) -> Json:
    """The document. `examples` are golden records (`topic`, `headers`, `value`), by `ce_type`."""
    records = {kind: record for topic in topics for kind, record in topic.kept.items()}
    golden = examples or {}
    messages = {kind: _message(kind, record, topics, golden.get(kind, ())) for kind, record in records.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Ragline events", "version": "1.0.0", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": {
            f"{service}.{action}.{topic.name}": _operation(action, service, topic)
            for topic in topics
            for action, services in (("send", topic.producers), ("receive", topic.consumers))
            for service in services
        },
        "components": {"messages": messages, "schemas": {CE_HEADERS: _headers(), **_bodies(list(records.values()))}},
    }


def _channel(topic: Topic) -> Json:
    days = f"kept {topic.retention_ms / 86_400_000:g} d" if topic.cleanup == "delete" else "compacted"
    settings: Json = {"cleanup.policy": [topic.cleanup], "max.message.bytes": MAX_RECORD_BYTES}
    if topic.cleanup == "delete":
        settings["retention.ms"] = topic.retention_ms
    found: Json = {
        "address": topic.name,
        "description": f"Keyed by {topic.key}: records of one key keep their order. {days.capitalize()}.",
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in topic.kept},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": settings,
                "bindingVersion": _BINDING,
            }
        },
        "x-key": topic.key,
        "x-public": topic.name in {public.name for public in PUBLIC_TOPICS},
    }
    if topic.has_dead_letters:
        found["x-dead-letter-topic"] = topic.dead_letter_topic
    return found


def _operation(action: str, service: str, topic: Topic) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"{service} {'writes' if action == 'send' else 'reads'} {topic.name}",
        "x-service": service,
    }


def _message(kind: str, record: type[Body], topics: Sequence[Topic], examples: Sequence[Json]) -> Json:
    newer = {step.new.ce_type for topic in topics for step in topic.upcasters if step.old.ce_type == kind}
    key = {"type": "string", "description": " or ".join(sorted({t.key for t in topics if kind in t.kept}))}
    found: Json = {
        "name": kind,
        "title": record.__name__,
        "summary": inspect.cleandoc(record.__doc__ or "").partition("\n\n")[0],
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "headers": {
            "allOf": [
                {"$ref": _SCHEMAS.format(model=CE_HEADERS)},
                {"type": "object", "properties": {"ce_type": {"const": kind}}},
            ]
        },
        "payload": {"$ref": _SCHEMAS.format(model=record.__name__)},
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}},
    }
    if examples:
        found["examples"] = [{"headers": one["headers"], "payload": one["value"]} for one in examples]
    if newer:
        found["x-superseded-by"] = min(newer)
    return found


def _bodies(records: Sequence[type[BaseModel]]) -> Json:
    """JSON Schemas of the bodies and of what they are made of. Raises: ValueError for two classes of one name."""
    _, found = models_json_schema([(record, "validation") for record in records], ref_template=_SCHEMAS)
    definitions: Json = found["$defs"]
    missing = sorted({record.__name__ for record in records} - definitions.keys())
    if missing:
        raise ValueError(f"two bodies have the same class name: {', '.join(missing)}")
    return definitions


def _headers() -> Json:
    uuid = {"type": "string", "format": "uuid"}
    text = {"type": "string"}
    properties = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {**uuid, "description": "Unique for ever; a record that is delivered again has the same."},
        "ce_type": {**text, "description": "`ragline.<area>.<name>.v<n>`."},
        "ce_source": {**text, "description": "The process that says it."},
        "ce_subject": {**text, "description": "What it is about: the record's key."},
        "ce_time": {**text, "format": "date-time"},
        "ce_tenantid": uuid,
        "ce_userid": {**uuid, "description": "Who acted."},
        "ce_correlationid": {**uuid, "description": "The first record of the chain."},
        "ce_causationid": {**uuid, "description": "The record that led to this one."},
        "ce_idempotencyid": {**uuid, "description": "Of a command with an Idempotency-Key."},
        "traceparent": {**text, "description": "W3C Trace Context."},
        "content-type": {"const": "application/json"},
    }
    required = ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "ce_tenantid"]
    return {"type": "object", "properties": properties, "required": required}
