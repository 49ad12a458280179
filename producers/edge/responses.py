"""Answers as the schemas' bodies, encoded once."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel


def json_response(body: BaseModel, status: int = 200, *, preference_applied: str | None = None) -> Response:
    """The body as JSON."""
    headers = {"preference-applied": preference_applied} if preference_applied is not None else None
    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def no_content() -> Response:
    """204."""
    return Response(status_code=204)
