"""The golden records of `schemas/examples`, as they stand in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from schemas.contracts import EXAMPLES
from schemas.envelope import Envelope, Headers, decode
from schemas.records import Body
from schemas.topics import BY_NAME, Topic


@dataclass(frozen=True)
class Golden:
    """One golden record; `name` is its file's."""

    name: str
    topic: Topic
    headers: dict[str, str]
    value: dict[str, Any]

    @property
    def raw_headers(self) -> Headers:
        return [(name, text.encode()) for name, text in self.headers.items()]

    @property
    def raw_value(self) -> bytes:
        return orjson.dumps(self.value)

    @property
    def kind(self) -> str:
        return self.headers["ce_type"]

    @property
    def model(self) -> type[Body]:
        return self.topic.kept[self.kind]

    def decoded(self) -> Envelope:
        return decode(self.topic, self.raw_headers, self.raw_value)


def golden() -> list[Golden]:
    """All of them, by name."""
    found = []
    for path in sorted(EXAMPLES.glob("*.json")):
        record = orjson.loads(path.read_bytes())
        assert set(record) == {"topic", "headers", "value"}, f"{path.name} must have topic, headers and value"
        found.append(Golden(path.stem, BY_NAME[record["topic"]], record["headers"], record["value"]))
    return found
