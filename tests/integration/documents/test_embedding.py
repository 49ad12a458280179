"""Vectors from a provider over the network: every text is paid for once, and nobody waits for whom it is slow."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from consumers.rebuild.vectors import VectorsReport, VectorTables
from consumers.relay.retention import trim_embedding_cache
from providers.catalog import EmbeddingSpec, build_embedder
from providers.ports import Embedder
from schemas.events import DocumentFailed, DocumentIndexed, PassagesEmbedded
from schemas.ids import new_id
from tests.integration.documents.room import DIMENSIONS, Room
from tests.integration.documents.test_deaths import worker
from tests.provider_server import ProviderServer

LINES = [f"line {n} of the document" for n in range(45)]
DATA = "\n".join(LINES).encode()


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        server.set(width=DIMENSIONS)
        yield server


@pytest.fixture
async def embedder(provider: ProviderServer) -> AsyncIterator[Embedder]:
    made = build_embedder(EmbeddingSpec("openai/e", api_base=provider.url, dimensions=DIMENSIONS))
    yield made
    await made.close()


async def cached(room: Room) -> set[bytes]:
    async with room.database.transaction() as work:
        rows = await work.fetch("SELECT content_hash FROM embedding_cache")
    return {row["content_hash"] for row in rows}


async def learn(room: Room, data: bytes) -> Any:
    document_id = await room.upload(data)
    assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    return document_id


async def test_only_what_is_new_is_embedded(room: Room, provider: ProviderServer, embedder: Embedder) -> None:
    """Of an edited document, of one that was deleted and comes again, and of a text that stands in it twice."""
    edited = "\n".join(["a new first line", *LINES[:20], "a changed line", *LINES[21:]]).encode()
    async with room.consuming(), room.learning(embedder, caches_vectors=True):
        first = await learn(room, DATA)
        assert provider.stats.embedded == dict.fromkeys(LINES, 1)
        await learn(room, edited)
        await room.delete(first)
        await learn(room, DATA)
        await learn(room, b"\n".join([b"a chorus"] * 30))
        new = ["a new first line", "a changed line", "a chorus"]
        assert provider.stats.embedded == dict.fromkeys([*LINES, *new], 1)
        for caches in (False, True):
            report, before = VectorsReport(), provider.stats.embedding_calls
            tables = VectorTables(room.database, room.vectors, embedder, caches=caches)
            await tables.rebuild(room.tenant_id, report, execute=False)
            assert report == VectorsReport(n_passages=45 + 46 + 30), "vectors of the cache are those of the provider"
            assert (provider.stats.embedding_calls == before) == caches


async def test_a_tenants_cache_is_its_own(room: Room, provider: ProviderServer, embedder: Embedder) -> None:
    async with room.consuming(), room.learning(embedder, caches_vectors=True):
        await learn(room, DATA)
        first, room.tenant_id = room.tenant_id, new_id()
        await learn(room, DATA)
    assert provider.stats.embedded == dict.fromkeys(LINES, 2)
    for tenant_id in (first, room.tenant_id):
        async with room.database.transaction(tenant_id) as work:
            rows = await work.fetch("SELECT tenant_id FROM embedding_cache")
        assert [row["tenant_id"] for row in rows] == [tenant_id] * 45


async def test_another_model_is_asked_again_and_old_vectors_go(room: Room, provider: ProviderServer) -> None:
    async with room.consuming():
        for n, model in enumerate(("openai/e", "openai/f", "openai/e")):
            embedder = build_embedder(EmbeddingSpec(model, api_base=provider.url, dimensions=DIMENSIONS))
            async with room.learning(embedder, caches_vectors=True):
                await learn(room, DATA + b"\n%d" % n)
            await embedder.close()
    assert {provider.stats.embedded[line] for line in LINES} == {2}
    async with room.database.transaction() as work:
        await work.execute(
            "UPDATE embedding_cache SET used_on = current_date - CASE model WHEN 'openai/e-16' THEN 31 ELSE 30 END"
        )
    month = await room.row("SELECT interval '30 days' AS kept")
    assert await trim_embedding_cache(room.database, kept=month["kept"]) == 45 + 2
    async with room.consuming():
        embedder = build_embedder(EmbeddingSpec("openai/f", api_base=provider.url, dimensions=DIMENSIONS))
        async with room.learning(embedder, caches_vectors=True):
            await learn(room, DATA)
        await embedder.close()
    assert (await room.row("SELECT count(*) AS n FROM embedding_cache WHERE used_on = current_date"))["n"] == 45
    assert await trim_embedding_cache(room.database, kept=month["kept"]) == 0


async def test_a_killed_worker_pays_for_no_text_twice_that_it_kept(room: Room, provider: ProviderServer) -> None:
    provider.set(first_token_s=0.05)
    paid: dict[str, int] = {}
    async with room.consuming(), room.relaying():
        document_id = await room.upload(DATA)
        for number in range(2):
            async with worker(room, f"victim-{number}", provider.url) as process:
                await room.heard.more(document_id, PassagesEmbedded, 1)
                process.kill()
                await process.wait()
                kept = await cached(room)
            paid |= {
                line: provider.stats.embedded[line] for line in LINES if hashlib.sha256(line.encode()).digest() in kept
            }
        async with worker(room, "last", provider.url):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    row = await room.version(document_id)
    assert (row["n_embedded"], row["attempt"]) == (45, 3)
    assert len(paid) >= 20
    assert {line: provider.stats.embedded[line] for line in paid} == paid
    assert sum(provider.stats.embedded.values()) <= 45 + 2 * 10, "at most the batch that a killed one was asking for"


async def test_what_was_kept_and_not_checkpointed_is_not_asked_again(
    room: Room, provider: ProviderServer, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that ends between a provider's answer and the blob store."""
    put = room.blobs.put_bytes
    never = asyncio.Event()

    async def stuck(key: str, data: bytes) -> Any:
        if key.endswith(".npy"):
            await never.wait()
        return await put(key, data)

    async with room.consuming():
        monkeypatch.setattr(room.blobs, "put_bytes", stuck)
        async with room.learning(embedder, caches_vectors=True):
            document_id = await room.upload(DATA)
            async with asyncio.timeout(20):
                while len(await cached(room)) < 20:  # the first batch, and the one embedded ahead
                    await asyncio.sleep(0.01)
        monkeypatch.setattr(room.blobs, "put_bytes", put)
        assert (await room.version(document_id))["n_embedded"] == 0
        async with room.learning(embedder, caches_vectors=True):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert provider.stats.embedded == dict.fromkeys(LINES, 1)


async def test_small_documents_of_all_tenants_pass_one_that_its_provider_holds_up(
    room: Room, provider: ProviderServer, embedder: Embedder
) -> None:
    large = "\n".join(["[[first_token_s=600]]", *("x" * 12_000 + str(n) for n in range(100))]).encode()
    async with room.consuming(), room.learning(embedder, slots=2, caches_vectors=True):
        stuck = [await room.upload(large + b"%d" % n) for n in range(2)]
        async with asyncio.timeout(20):
            while not provider.stats.active:
                await asyncio.sleep(0.01)
        for n in range(3):
            await learn(room, b"of the same tenant %d" % n)
        room.tenant_id = new_id()
        await learn(room, b"of another tenant")
        held = [await room.version(id_) for id_ in stuck]
    assert [(version["status"], version["n_embedded"]) for version in held] == [("embedding", 0), ("queued", 0)]


async def test_a_provider_that_rests_is_waited_for_by_every_job(room: Room, provider: ProviderServer) -> None:
    embedder = build_embedder(
        EmbeddingSpec("openai/e", api_base=provider.url, dimensions=DIMENSIONS, requests_at_once=1)
    )
    provider.set(error_status=429, retry_after="0.7")
    async with room.consuming(), room.learning(embedder, caches_vectors=True, slots=4):
        documents = [await room.upload(b"document %d" % n) for n in range(4)]
        async with asyncio.timeout(20):
            while not provider.stats.errors_sent:
                await asyncio.sleep(0.01)
        provider.set(error_status=0)
        for document_id in documents:
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    await embedder.close()
    assert provider.stats.embedded == {f"document {n}": 1 for n in range(4)}
    assert (provider.stats.errors_sent, provider.stats.embedding_calls) == (1, 5)


async def test_other_dimensions_end_the_document_with_a_sentence(room: Room, provider: ProviderServer) -> None:
    wrong = build_embedder(EmbeddingSpec("openai/e", api_base=provider.url, dimensions=1024))
    async with room.consuming(), room.learning(wrong, caches_vectors=True):
        end = await room.heard.end(await room.upload(b"one"))
    await wrong.close()
    assert isinstance(end, DocumentFailed)
    assert (end.error.code, end.error.message) == (
        "embedding_failed",
        (
            'Its passages could not be embedded: "openai/e" gives 16 dimensions, 1024 are configured;'
            " set embedding.dimensions to 16"
        ),
    )
    assert await cached(room) == set()
