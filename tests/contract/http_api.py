"""The committed OpenAPI document: `python -m tests.contract.http_api` writes it, and refuses what breaks clients.

It is made here and not in `schemas`, which knows no routes: the edge is built over clients that are never connected.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

import schemas
from producers.edge.app import build_app
from producers.edge.session_context import Preview
from providers.catalog import build_chat_models
from providers.tokens import TiktokenCounter
from retrieval.preparing import Contexts
from retrieval.search import Searcher
from schemas.compatibility import broken_routes
from schemas.contracts import encoded
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.passages import PassageVisibility
from storage.postgres.unit_of_work import Database
from tests.fakes.embedder import WordHashEmbedder
from tests.fakes.vector_index import MemoryVectorIndex

OPENAPI = Path(schemas.__file__).parent / "openapi.json"
REGENERATE = "python -m tests.contract.http_api"
AWAY = "localhost:1"


async def document() -> dict[str, Any]:
    """What the edge serves at `/openapi.json`, as version 1 of the API."""
    database, counter = Database(f"postgresql://{AWAY}/ragline"), TiktokenCounter()
    searcher = Searcher(MemoryVectorIndex(), WordHashEmbedder(), PassageVisibility(database))
    answerer = build_chat_models([], counter=counter).default
    with TemporaryDirectory() as folder:
        edge = build_app(
            bootstrap=AWAY,
            database=database,
            producer=LogProducer(AWAY, client_id="contracts"),
            blobs=LocalBlobStore(Path(folder)),
            searcher=searcher,
            preview=Preview(Contexts(database, searcher, counter), answerer, counter),
            model_names=(),
            on_fatal=lambda error: sys.exit(repr(error)),
            version="1",
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://edge") as client:
            found: dict[str, Any] = (await client.get("/openapi.json")).raise_for_status().json()
    return found


def committed() -> dict[str, Any]:
    """The document as it was promised."""
    found: dict[str, Any] = orjson.loads(OPENAPI.read_bytes())
    return found


def write() -> None:
    """Makes the file hold what the edge says. Raises: SystemExit, and writes nothing, if a client would break."""
    wanted = asyncio.run(document())
    if broken := broken_routes(committed(), wanted):
        sys.exit("\n".join(["Nothing was written:", *broken]))
    OPENAPI.write_bytes(encoded(wanted))


if __name__ == "__main__":
    write()
