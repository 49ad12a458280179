"""The one OpenAPI document: FastAPI's own, with the bodies that the edge reads itself, and every problem."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import http
from schemas.dead_letters import DeadLetterPosition
from schemas.http import RequestBody

_REF = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    http.NewSession,
    http.SessionName,
    http.SessionFavorite,
    http.AnswerOptions,
    http.NewMessage,
    http.MessageEdit,
    http.NewDocument,
    http.DocumentChange,
    http.NewVersion,
    http.SearchRequest,
    DeadLetterPosition,
    http.Problem,
)


def takes_json(model: type[RequestBody], *, required: bool = True) -> dict[str, Any]:
    """What a route adds to the document about its body."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": ref(model)}}}}


def ref(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to one of `BODIES`."""
    if model not in BODIES:
        raise ValueError(f"{model.__name__} is not among the bodies of the OpenAPI document")
    return {"$ref": _REF.format(model=model.__name__)}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        _, definitions = models_json_schema([(model, "validation") for model in BODIES], ref_template=_REF)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(definitions.get("$defs", {}))
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        problem = {"description": "A problem", "content": {"application/problem+json": {"schema": ref(http.Problem)}}}
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = problem
        app.openapi_schema = document
    return app.openapi_schema
