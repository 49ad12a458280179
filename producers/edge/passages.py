"""Passages as clients see them."""

from __future__ import annotations

from typing import Any

from storage.ports import PassageView


def passage_fields(passage: PassageView) -> dict[str, Any]:
    """The fields of `schemas.http.Passage`, which what tells more of a passage has too."""
    return {
        "id": passage.id,
        "document_id": passage.document_id,
        "version": passage.version,
        "text": passage.text,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
        "heading_path": list(passage.heading_path),
    }
