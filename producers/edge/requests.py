"""Reading requests: bodies within their limits, strict JSON with the field at fault named, the headers we know."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from fastapi import Request
from pydantic import ValidationError

from producers.edge.asgi import Disconnected, Receive
from producers.edge.caller import Caller
from producers.edge.problems import not_found, too_large
from schemas.errors import Reject
from schemas.http import RequestBody

BodyT = TypeVar("BodyT", bound=RequestBody)

MAX_WAIT_S = 60.0
MAX_KEY_CHARS = 255

_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_PREFERENCE = re.compile(r"\s*([A-Za-z-]+)\s*(?:=\s*\"?([^\";,]*)\"?)?\s*(?:;[^,]*)?")
_LIMITS = ("max_length", "min_length", "le", "ge", "lt", "gt")


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the client wants to wait for the effect (RFC 7240); `applied` is what the answer says of it."""

    wait_s: float
    applied: str | None = None


_ASYNC = Preference(0.0, "respond-async")


def preference(headers: Mapping[bytes, bytes], default_wait_s: float) -> Preference:
    """`Prefer: respond-async` or `wait=N` (0 to 60 s); anything else is ignored, as the RFC wants it."""
    raw = headers.get(b"prefer")
    if raw is None:
        return Preference(default_wait_s)
    if raw == b"respond-async":
        return _ASYNC
    found: dict[str, str | None] = {}
    for part in raw.decode("latin-1").split(","):
        match = _PREFERENCE.fullmatch(part)
        if match:
            found.setdefault(match[1].lower(), match[2])
    if "respond-async" in found:
        return _ASYNC
    wait = found.get("wait")
    if wait is not None and wait.isdecimal() and wait.isascii():
        wait_s = min(float(wait[:9]), MAX_WAIT_S)
        return Preference(wait_s, f"wait={wait_s:.0f}")
    return Preference(default_wait_s)


def idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
    """The key, if there is one. Raises: Reject 422 for one that is empty, too long, or not visible ASCII."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    if _IDEMPOTENCY_KEY.fullmatch(raw) is None:
        raise Reject(
            "invalid_idempotency_key",
            422,
            f"Idempotency-Key takes 1 to {MAX_KEY_CHARS} visible ASCII characters",
            field="Idempotency-Key",
            limit=MAX_KEY_CHARS,
        )
    return raw.decode()


def path_id(text: str, what: str) -> UUID:
    """An id in a path. Raises: Reject 404: what is no id names nothing."""
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise not_found(what)


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """The body's media type without parameters, in lower case."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def check_content_length(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    """Raises: Reject 413 for a body that says itself that it is too large."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > limit_bytes:
        raise too_large(limit_bytes, field="body")


async def body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises: Disconnected if it is cut short."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        chunk = message.get("body", b"")
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int) -> bytes:
    """The whole body. Raises: Reject 413; Disconnected."""
    check_content_length(headers, limit_bytes)
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit_bytes:
        return body
    parts, size = [body], len(body)
    if message.get("more_body", False):
        async for chunk in body_chunks(receive):
            size += len(chunk)
            if size > limit_bytes:
                raise too_large(limit_bytes, field="body")
            parts.append(chunk)
    if size > limit_bytes:
        raise too_large(limit_bytes, field="body")
    return b"".join(parts)


async def read_json(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    model: type[BodyT],
    *,
    limit_bytes: int,
    may_be_empty: bool = False,
) -> BodyT:
    """The body as `model`. Raises: Reject 400, 413, 415, 422; Disconnected."""
    body = await read_body(receive, headers, limit_bytes)
    if not body and may_be_empty:
        return parse_json(b"{}", model)
    kind = media_type(headers)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Reject("unsupported_media_type", 415, "send the body as Content-Type: application/json")
    return parse_json(body, model)


@dataclass(frozen=True, slots=True)
class JsonBodies:
    """Reads the JSON bodies of FastAPI's routes, all within one limit."""

    limit_bytes: int

    async def read(self, request: Request, caller: Caller, model: type[BodyT], *, may_be_empty: bool = False) -> BodyT:
        """As `read_json`."""
        limit = self.limit_bytes
        return await read_json(request.receive, caller.headers, model, limit_bytes=limit, may_be_empty=may_be_empty)


def parse_json(body: bytes, model: type[BodyT]) -> BodyT:
    """Reads strict JSON. Raises: Reject 400 for what is no JSON, 422 for what does not fit, naming the field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise _why_not_json(body, str(first["msg"])) from None
        raise invalid_field(first["loc"], first["type"], first["msg"], first.get("ctx", {})) from None


def invalid_field(location: tuple[int | str, ...], kind: str, message: str, context: Mapping[str, Any]) -> Reject:
    """422 that names the field and, where there is one, the limit."""
    field = ".".join(str(part) for part in location) or "body"
    if kind == "extra_forbidden":
        return Reject("unknown_field", 422, f'there is no field "{field}" here', field=field)
    limit = next((context[name] for name in _LIMITS if name in context), None)
    detail = f"{field}: {message if message.startswith('U+') else message[:1].lower() + message[1:]}"
    if isinstance(limit, int | float):
        return Reject("invalid_field", 422, detail, field=field, limit=int(limit))
    return Reject("invalid_field", 422, detail, field=field)


def _why_not_json(body: bytes, message: str) -> Reject:
    """What stands in the way: a lone surrogate in some field, or no JSON at all."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return Reject("invalid_json", 400, f"the body is not UTF-8: {error.reason} at byte {error.start}")
    try:
        field = _lone_surrogate(json.loads(text), ())
    except (ValueError, RecursionError):
        field = None
    if field is None:
        return Reject("invalid_json", 400, message)
    name = ".".join(field) or "body"
    return Reject("invalid_field", 422, f"{name}: lone surrogates are no characters", field=name)


def _lone_surrogate(value: object, location: tuple[str, ...]) -> tuple[str, ...] | None:
    """Where a string with a lone surrogate stands."""
    if isinstance(value, str):
        return location if any("\ud800" <= char <= "\udfff" for char in value) else None
    items: list[tuple[str, object]] = []
    if isinstance(value, dict):
        if any("\ud800" <= char <= "\udfff" for key in value for char in key):
            return (*location, "(a field's name)")
        items = list(value.items())
    elif isinstance(value, list):
        items = [(str(i), item) for i, item in enumerate(value)]
    return next((found for key, item in items if (found := _lone_surrogate(item, (*location, key))) is not None), None)
