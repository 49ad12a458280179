"""What no text of a client may be."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

_HIDING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def refuse_nul(text: str) -> str:
    """The text itself. Raises: PydanticCustomError `nul_character`."""
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "U+0000 cannot be stored")
    return text


def refuse_blank(text: str) -> str:
    """The text itself. Raises: PydanticCustomError `blank`."""
    if not text or text.isspace():
        raise PydanticCustomError("blank", "must not be empty")
    return text


def refuse_hiding(text: str) -> str:
    """The text itself. Raises: PydanticCustomError `hiding`."""
    if _HIDING.search(text):
        raise PydanticCustomError("hiding", "must have no control characters, and none that turn the order of letters")
    return text
