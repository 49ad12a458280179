"""`/docs`: the API's documentation with its scripts from a wheel, so that it opens without an internet; `/asyncapi`."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from schemas.contracts import ASYNCAPI

ASSETS = "/docs/assets"


def add_docs_page(app: FastAPI, *, openapi_url: str = "/openapi.json") -> None:
    """Declares the page and what it loads; nothing comes from another host. `/asyncapi` is the committed one."""
    page = get_swagger_ui_html(
        openapi_url=openapi_url,
        title=app.title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )

    async def docs() -> HTMLResponse:
        return page

    async def asyncapi() -> Response:
        return Response(events, media_type="application/json")

    events = ASYNCAPI.read_bytes()
    app.add_api_route("/asyncapi", asyncapi, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    app.mount(ASSETS, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
