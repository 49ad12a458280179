"""CloudEvents 1.0 in Kafka's binary mode: attributes as `ce_` headers, the body as JSON value.

Source: CloudEvents Kafka Protocol Binding 1.0.2, §3.2. Attributes of our own are extensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from pydantic import ValidationError

from schemas.errors import DeadLetter
from schemas.ids import new_id
from schemas.records import Body
from schemas.topics import MAX_RECORD_BYTES, Topic

Headers = list[tuple[str, bytes]]

_FIXED: Headers = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who says what about whom, and because of what.

    `causation_id` is the id of the record that led to this one, `correlation_id` that of the first in the chain.
    """

    body: Body
    tenant_id: UUID
    source: str
    user_id: UUID | None = None
    id: UUID = field(default_factory=new_id)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None
    idempotency_id: UUID | None = None

    def headers(self) -> Headers:
        """The attributes as ASCII headers."""
        return [*self.shared_headers(), *own_headers(str(self.id), self.body.ce_type, self.time)]

    def shared_headers(self) -> Headers:
        """Those that other records of the same subject and chain have too: all but id, type and time."""
        headers = [
            *_FIXED,
            ("ce_source", self.source.encode()),
            ("ce_subject", self.body.key().encode()),
            ("ce_tenantid", str(self.tenant_id).encode()),
            ("ce_correlationid", str(self.correlation_id or self.id).encode()),
        ]
        if self.user_id is not None:
            headers.append(("ce_userid", str(self.user_id).encode()))
        if self.causation_id is not None:
            headers.append(("ce_causationid", str(self.causation_id).encode()))
        if self.idempotency_id is not None:
            headers.append(("ce_idempotencyid", str(self.idempotency_id).encode()))
        if self.traceparent is not None:
            headers.append(("traceparent", self.traceparent.encode()))
        return headers

    def caused(self, body: Body, *, source: str, time: datetime, id: UUID | None = None) -> Envelope:  # noqa: A002
        """An envelope for a fact that follows from this one."""
        return Envelope(
            body=body,
            tenant_id=self.tenant_id,
            user_id=self.user_id,
            source=source,
            id=id or new_id(),
            time=time,
            correlation_id=self.correlation_id or self.id,
            causation_id=self.id,
            traceparent=self.traceparent,
        )


def own_headers(id_: str, kind: str, time: datetime) -> Headers:
    """Those that no other record has; `id_` is the text of a UUID."""
    return [("ce_id", id_.encode()), ("ce_type", kind.encode()), ("ce_time", time.isoformat().encode())]


def header_map(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers as text. Raises: DeadLetter for null, unreadable, unprintable or repeated `ce_` headers."""
    found: dict[str, str] = {}
    for name, raw in headers:
        if not name.isprintable():  # also where its bytes are not UTF-8: see storage/log/header_names.py
            raise DeadLetter("bad_header", f"a header's name is not readable: {name!a}")
        if raw is None:
            raise DeadLetter("bad_header", f"header {name!r} is null")
        if name in found and name.startswith("ce_"):
            raise DeadLetter("bad_header", f"header {name!r} stands twice")
        try:
            found[name] = text = raw.decode("ascii")
        except UnicodeDecodeError:
            raise DeadLetter("bad_header", f"header {name!r} is not ASCII") from None
        if not text.isprintable():
            raise DeadLetter("bad_header", f"header {name!r} has control characters")
    return found


def decode(topic: Topic, headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Envelope:
    """Reads one record of `topic`.

    Raises: DeadLetter with `bad_header`, `missing_header`, `unknown_type`, `oversized`, `empty_body`, `malformed_body`.
    """
    attributes = header_map(headers)
    try:
        kind, id_, tenant = attributes["ce_type"], UUID(attributes["ce_id"]), UUID(attributes["ce_tenantid"])
        time = datetime.fromisoformat(attributes["ce_time"])
    except KeyError as error:
        raise DeadLetter("missing_header", f"header {error} is missing") from None
    except ValueError as error:
        raise DeadLetter("bad_header", str(error)) from None
    body = decode_body(topic, kind, value)
    return Envelope(
        body=body,
        tenant_id=tenant,
        source=attributes.get("ce_source", ""),
        user_id=_optional_id(attributes, "ce_userid"),
        id=id_,
        time=time if time.tzinfo else time.replace(tzinfo=UTC),
        correlation_id=_optional_id(attributes, "ce_correlationid"),
        causation_id=_optional_id(attributes, "ce_causationid"),
        traceparent=attributes.get("traceparent"),
        idempotency_id=_optional_id(attributes, "ce_idempotencyid"),
    )


def decode_body(topic: Topic, kind: str, value: bytes | None) -> Body:
    """Reads one body, in the newest version of its record.

    Raises: DeadLetter with `unknown_type`, `oversized`, `empty_body`, `malformed_body`.
    """
    model = topic.kept.get(kind)
    if model is None:
        raise DeadLetter("unknown_type", f"{kind!r} is not registered on {topic.name}")
    if not value:
        raise DeadLetter("empty_body", f"{kind} without a body")
    if len(value) > MAX_RECORD_BYTES:
        raise DeadLetter("oversized", f"{len(value)} bytes, at most {MAX_RECORD_BYTES}")
    try:
        return topic.upcast(model.decode(value))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise DeadLetter("malformed_body", f"{kind}: {where}: {first['msg']}") from None


def _optional_id(attributes: dict[str, str], name: str) -> UUID | None:
    text = attributes.get(name)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise DeadLetter("bad_header", f"{name} is not a UUID: {text!r}") from None
