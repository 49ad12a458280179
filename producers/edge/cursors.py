"""Cursors of lists: opaque to clients, and good for one list only: its kind, and the scope that it is of."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Query

from schemas.errors import Reject

DEFAULT_LIMIT, MAX_LIMIT = 50, 200

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(description=f"Items per page, at most {MAX_LIMIT}; what is outside is clamped.")]


def clamped(limit: int) -> int:
    """A limit that every list can take."""
    return max(1, min(limit, MAX_LIMIT))


def encode_cursor(kind: str, scope: object, *values: object) -> str:
    """The cursor after an item that stands at `values`; `scope` says whose list it is (a tenant, a session, …)."""
    return base64.urlsafe_b64encode(orjson.dumps([kind, str(scope), *values], default=str)).decode().rstrip("=")


def decode_cursor(kind: str, scope: object, text: str) -> list[object]:
    """The values. Raises: Reject 400 for what is no cursor of this list."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(raw)
    except (ValueError, binascii.Error):
        raise invalid_cursor() from None
    if not isinstance(found, list) or found[:2] != [kind, str(scope)]:
        raise invalid_cursor()
    return found[2:]


def invalid_cursor() -> Reject:
    """What was given is no cursor of this list."""
    return Reject("invalid_cursor", 400, "this is not a next_cursor of this list", field="cursor")


def after_time(kind: str, scope: object, text: str | None) -> tuple[datetime, UUID] | None:
    """The time and id after which a page of a list by time begins. Raises: Reject 400."""
    if text is None:
        return None
    values = decode_cursor(kind, scope, text)
    try:
        at, id_ = values
        time = datetime.fromisoformat(str(at))
        if time.tzinfo is None:
            raise invalid_cursor()
        return time.astimezone(UTC), UUID(str(id_))
    except (ValueError, OverflowError):
        raise invalid_cursor() from None


def after_position(kind: str, scope: object, text: str | None) -> int:
    """The position after which a page of a numbered list begins; -1 for the first page. Raises: Reject 400."""
    if text is None:
        return -1
    [position] = numbers(kind, scope, text, n=1)
    return position


def numbers(kind: str, scope: object, text: str, *, n: int) -> list[int]:
    """The `n` numbers of a cursor. Raises: Reject 400."""
    values = decode_cursor(kind, scope, text)
    found = [value for value in values if isinstance(value, int) and 0 <= value < 2**31 - 1]
    if not len(found) == len(values) == n:
        raise invalid_cursor()
    return found
