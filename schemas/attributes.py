"""What a document is said to be, in words of its tenant's own, for searches to filter by."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

MAX_ATTRIBUTES = 20

AttributeValue = str | bool | int | float
Attributes = dict[str, AttributeValue]

_EXACT: Any = {"ge": 1 - 2**53, "le": 2**53 - 1}
"""The whole numbers that every JSON reader keeps as they are (RFC 8259, section 6)."""
_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,49}$")]
_Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
_Number = Annotated[int, Field(**_EXACT)] | Annotated[float, Field(**_EXACT)]

SentAttributes = Annotated[dict[_Name, bool | _Number | _Text], Field(max_length=MAX_ATTRIBUTES)]
"""Attributes as clients may send them."""
