"""Passages for the tests of this room."""

from __future__ import annotations

from uuid import UUID

from storage.ports import PassageView

DOCUMENT = UUID(int=1)


def passage(
    text: str,
    *,
    number: int = 0,
    document: UUID = DOCUMENT,
    name: str = "trace.pdf",
    page: int | None = 3,
    start: int = 0,
) -> PassageView:
    return PassageView(
        id=UUID(int=1_000 + number),
        document_id=document,
        document_name=name,
        version=1,
        text=text,
        page=page,
        start=start,
        end=start + len(text),
        heading_path=(),
        ordinal=number,
    )
