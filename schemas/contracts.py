"""JSON Schema of every record's body, for consumers that are not Python: committed in `schemas/jsonschema/`.

`python -m schemas.contracts` writes the files again; a contract test compares them with the models. The schemas are
those of the producer, which refuses unknown fields; consumers ignore them (design §4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from schemas.records import Body
from schemas.topics import TOPICS

FOLDER = Path(__file__).parent / "jsonschema"
REGENERATE = "python -m schemas.contracts"


def record_types() -> dict[str, type[Body]]:
    """Every registered body class by its `ce_type`."""
    return {ce_type: record for topic in TOPICS for ce_type, record in topic.by_type.items()}


def json_schema(record: type[Body]) -> dict[str, Any]:
    """JSON Schema 2020-12 of one record's body, with the topics that carry it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ragline:{record.ce_type}",
        "x-topics": [topic.name for topic in TOPICS if record.ce_type in topic.by_type],
        **record.model_json_schema(),
    }


def files() -> dict[str, bytes]:
    """What stands in `FOLDER`: content by file name."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {
        f"{ce_type}.json": orjson.dumps(json_schema(record), option=option)
        for ce_type, record in record_types().items()
    }


def write() -> None:
    """Makes `FOLDER` hold exactly `files()`."""
    FOLDER.mkdir(exist_ok=True)
    wanted = files()
    for stale in {path.name for path in FOLDER.glob("*.json")} - wanted.keys():
        (FOLDER / stale).unlink()
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    write()
