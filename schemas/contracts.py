"""The committed contracts of the log: each record in `schemas/jsonschema/`, all of them in `schemas/asyncapi.json`.

`python -m schemas.contracts` writes them again, and refuses what would break a consumer or a subscriber; the contract
tests compare them with the registry. A published schema is what readers may rely on: fields may be added.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from schemas.asyncapi import asyncapi
from schemas.compatibility import broken_records
from schemas.records import Body
from schemas.topics import TOPICS, Topic

HERE = Path(__file__).parent
ASYNCAPI = HERE / "asyncapi.json"
EXAMPLES = HERE / "examples"
FOLDER = HERE / "jsonschema"
REGENERATE = "python -m schemas.contracts"


def encoded(document: Any) -> bytes:
    """A document as it is committed."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def json_schema(record: type[Body]) -> dict[str, Any]:
    """JSON Schema 2020-12 of one record's body, with the topics that carry it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ragline:{record.ce_type}",
        "x-topics": [topic.name for topic in TOPICS if record.ce_type in topic.kept],
        **record.model_json_schema(),
    }


def files() -> dict[str, bytes]:
    """What stands in `FOLDER`: content by file name."""
    records = {kind: record for topic in TOPICS for kind, record in topic.kept.items()}
    return {f"{kind}.json": encoded(json_schema(record)) for kind, record in records.items()}


def document(topics: Sequence[Topic] = TOPICS) -> dict[str, Any]:
    """The AsyncAPI document, with the golden records as examples."""
    examples: dict[str, list[Any]] = {}
    for path in sorted(EXAMPLES.glob("*.json")):
        golden = orjson.loads(path.read_bytes())
        examples.setdefault(golden["headers"]["ce_type"], []).append(golden)
    return asyncapi(topics, examples=examples)


def committed() -> dict[str, Any]:
    """The AsyncAPI document as it was promised."""
    found: dict[str, Any] = orjson.loads(ASYNCAPI.read_bytes())
    return found


def write() -> None:
    """Makes the files hold what the registry says. Raises: SystemExit, and writes nothing, if somebody would break."""
    if broken := broken_records(committed(), document()):
        sys.exit("\n".join(["Nothing was written:", *broken]))
    FOLDER.mkdir(exist_ok=True)
    wanted = files()
    for stale in {path.name for path in FOLDER.glob("*.json")} - wanted.keys():
        (FOLDER / stale).unlink()
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)
    ASYNCAPI.write_bytes(encoded(document()))


if __name__ == "__main__":
    write()
