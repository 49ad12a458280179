"""What a blob's key may look like."""

from __future__ import annotations

import re
from uuid import UUID

_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,200}")
_MAX_KEY = 900


def tenant_prefix(tenant_id: UUID) -> str:
    """Where every blob of a tenant lies."""
    return f"tenants/{tenant_id}/"


def checked_key(key: str) -> str:
    """`key`, if it is one: `/`-separated segments of `[A-Za-z0-9._-]`, never `.` or `..`, at most 900 characters.

    Raises: ValueError.
    """
    if len(key) > _MAX_KEY or not all(
        _SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in key.split("/")
    ):
        raise ValueError(
            f"blob key {key[:200]!r} is not valid: segments of A-Z a-z 0-9 . _ - (at most 200, never . or ..),"
            f" separated by /, at most {_MAX_KEY} in all"
        )
    return key


def checked_folder(prefix: str) -> str:
    """`prefix`, if it names all keys below a folder: a key and a `/`. Raises: ValueError."""
    if not prefix.endswith("/"):
        raise ValueError(f"blob prefix {prefix[:200]!r} must end with /")
    checked_key(prefix[:-1])
    return prefix


def checked_start(prefix: str) -> str:
    """`prefix`, if a key can begin with it; empty for all keys. Raises: ValueError."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix
