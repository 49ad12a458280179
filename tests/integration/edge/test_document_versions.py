"""Versions over HTTP, from the request to what readers see, with everything that learns documents at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from consumers.documents.passages import PassageSize
from providers.ports import ProviderError
from providers.tokens import TiktokenCounter
from ragline.dev_stack.embedded import EmbeddedServers
from ragline.passage_settings import PassageSettings
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.documents.room import HashEmbedder, open_room
from tests.integration.edge.test_documents import blobs_in
from tests.integration.edge.world import Person, RunningEdge, enrol, events_of, eventually, person, tell_key

FIRST, SECOND = b"the first line\nthe second line", b"another text"


@pytest.fixture
async def embedder(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> AsyncIterator[HashEmbedder]:
    """What learns documents is at work; its embedder."""
    embedder = HashEmbedder()
    async with (
        open_room(dsn, servers.kafka_bootstrap, tmp_path) as room,
        room.consuming(),
        room.learning(embedder),
    ):
        yield embedder


def file(data: bytes, name: str = "a.txt") -> dict[str, Any]:
    return {"files": {"file": (name, data, "text/plain")}}


async def uploaded(client: httpx.AsyncClient, data: bytes = FIRST) -> str:
    """The path of a document that is indexed."""
    added = await client.post("/api/v1/documents", **file(data), data={"tags": "x"})
    assert added.status_code == 202, added.text
    path = f"/api/v1/documents/{added.json()['id']}"
    assert (await told(client, path))[-1]["status"] == "indexed"
    return path


async def told(client: httpx.AsyncClient, path: str) -> list[Any]:
    """What the document's stream tells, to its end."""
    async with client.stream("GET", f"{path}/events") as response:
        assert response.status_code == 200
        return [event.data async for event in events_of(response)]


async def seen(client: httpx.AsyncClient, path: str, **of: int) -> tuple[bytes, list[str]]:
    """Content and passages as readers see them."""
    content = await client.get(f"{path}/content", params=of)
    passages = await client.get(f"{path}/passages", params=of)
    return content.content, [item["text"] for item in passages.json()["items"]]


async def test_a_document_is_replaced_followed_listed_and_restored(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder
) -> None:
    old, new = (FIRST, ["the first line", "the second line"]), (SECOND, ["another text"])
    async with edge.client(somebody) as client:
        path = await uploaded(client)
        embedder.gate.clear()
        answer = await client.put(path, **file(SECOND))
        assert answer.status_code == 202, answer.text
        version = answer.json()
        assert (version["version"], version["is_active"], version["size_bytes"]) == (2, False, len(SECOND))
        document = (await client.get(path)).json()
        assert (document["version"], document["active_version"], document["status"] != "indexed") == (2, 1, True)
        assert (document["name"], document["tags"]) == ("a.txt", ["x"]), "what is not sent stays"
        assert await seen(client, path) == old
        following = asyncio.create_task(told(client, path))
        embedder.gate.set()
        last = (await following)[-1]
        assert (last["version"], last["status"], last["n_passages"]) == (2, "indexed", 1)
        assert await seen(client, path) == new
        assert await seen(client, path, version=1) == old
        listed = (await client.get(f"{path}/versions")).json()["items"]
        assert [(one["version"], one["is_active"], one["n_passages"]) for one in listed] == [
            (2, True, 1),
            (1, False, 2),
        ]
        restored = await client.post(f"{path}/versions", json={"restore": 1})
        assert (restored.status_code, restored.json()["version"]) == (202, 1), restored.text
        assert (await told(client, path))[-1] == (await client.get(path)).json()["progress"]
        assert await seen(client, path) == old
        document = (await client.get(path)).json()
        assert (document["version"], document["active_version"], document["status"]) == (1, 1, "indexed")
        first = (await client.get(f"{path}/versions", params={"limit": 1})).json()
        rest = (await client.get(f"{path}/versions", params={"cursor": first["next_cursor"]})).json()
        assert [(one["version"], one["is_active"]) for one in first["items"] + rest["items"]] == [(2, False), (1, True)]
        feed = await client.get("/api/v1/events", params={"document_id": document["id"], "from": "beginning"})
        kinds = [(item["type"].split(".")[2], item["data"].get("version")) for item in feed.json()["items"]]
        wanted = [("document_uploaded", 2), ("document_indexed", 2), ("restore_requested", 1), ("document_indexed", 1)]
        assert [kind for kind in kinds if kind in wanted][1:] == wanted, kinds


async def test_a_stream_that_is_open_goes_over_to_the_new_version(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder
) -> None:
    async with edge.client(somebody) as client:
        path = await uploaded(client)
        embedder.gate.clear()
        await client.put(path, **file(b"two"))
        async with client.stream("GET", f"{path}/events") as response:
            stream = events_of(response)
            assert (await anext(stream)).data["version"] == 2
            await client.put(path, **file(b"three"))
            while (event := await anext(stream)).data["version"] == 2:
                pass
            assert (event.data["version"], event.data["status"], event.data["n_embedded"]) == (3, "queued", 0)
            embedder.gate.set()
            rest = [event async for event in stream]
        assert {event.data["version"] for event in rest} == {3}
        assert rest[-1].name == "indexed"
        assert (await client.get(f"{path}/content")).content == b"three"


async def test_a_version_that_fails_is_shown_with_what_is_active(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise ProviderError("auth", "the key is wrong", retryable=False)

    async with edge.client(somebody) as client:
        path = await uploaded(client)
        with monkeypatch.context() as patched:
            patched.setattr(embedder, "embed", refuse)
            await client.put(path, **file(SECOND))
            last = (await told(client, path))[-1]
        assert (last["status"], last["version"], last["error"]["code"]) == ("failed", 2, "embedding_failed")
        document = (await client.get(path)).json()
        assert (document["status"], document["error"]["code"]) == ("failed", "embedding_failed")
        assert (document["version"], document["active_version"]) == (2, 1)
        assert await seen(client, path) == (FIRST, ["the first line", "the second line"])
        newest = (await client.get(f"{path}/versions")).json()["items"][0]
        assert (newest["status"], newest["is_active"], newest["error"]) == ("failed", False, document["error"])
        assert (await client.post(f"{path}/versions", json={"restore": 2})).status_code == 202
        assert (await told(client, path))[-1]["status"] == "indexed", "it is tried again"


async def test_name_type_and_tags_change_without_a_version(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder
) -> None:
    async with edge.client(somebody) as client:
        path = await uploaded(client)
        named = await client.put(path, json={"name": "b.txt", "tags": []})
        assert (named.status_code, named.json()["name"], named.json()["tags"]) == (200, "b.txt", []), named.text
        assert (named.json()["version"], named.json()["type"]) == (1, "document")
        both = await client.put(path, json={"text": "new text", "type": "curated_dataset"})
        assert (both.status_code, both.json()["version"]) == (202, 2), both.text
        document = (await client.get(path)).json()
        assert (document["name"], document["type"], document["tags"]) == ("b.txt", "curated_dataset", [])


async def test_the_same_bytes_are_a_duplicate_or_a_restore_and_leave_no_blob(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder, tmp_path: Path
) -> None:
    def uploads() -> list[str]:
        return [blob for blob in blobs_in(tmp_path / "blobs") if "/uploads/" in blob]

    async with edge.client(somebody) as client:
        path, other = await uploaded(client), await uploaded(client, b"of another document")
        active = await client.put(path, **file(FIRST))
        elsewhere = await client.put(path, **file(b"of another document"))
        for answer, holder in ((active, path), (elsewhere, other)):
            assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_document"), answer.text
            assert (answer.json()["document_id"], answer.json()["version"]) == (holder.rpartition("/")[2], 1)
        assert uploads() == []
        keyed = {"idempotency-key": "v-2"}
        answers = await asyncio.gather(*(client.put(path, **file(SECOND), headers=keyed) for _ in range(3)))
        assert {(answer.status_code, answer.json()["version"]) for answer in answers} == {(202, 2)}
        clash = await client.put(path, **file(b"other"), headers=keyed)
        assert (clash.status_code, clash.json()["code"]) == (422, "idempotency_key_reused")
        assert (await told(client, path))[-1]["status"] == "indexed"
        back = await client.put(path, **file(FIRST))
        assert (back.status_code, back.json()["version"]) == (202, 1), "the bytes of an earlier version restore it"
        late = await client.put(path, **file(SECOND), headers=keyed)
        assert (late.status_code, late.json()["version"]) == (202, 2), "a late duplicate is told the same version"
        assert (await told(client, path))[-1]["version"] == 1

        async def one_blob() -> bool:
            return len(uploads()) == 1

        await eventually(one_blob)
        assert len((await client.get(f"{path}/versions")).json()["items"]) == 2


async def test_requests_that_make_no_sense_change_nothing(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder, producer: LogProducer, tmp_path: Path
) -> None:
    stranger = person()
    await tell_key(producer, stranger)
    async with edge.client(somebody) as client, edge.client(stranger) as elsewhere:
        path = await uploaded(client)
        before, unknown = blobs_in(tmp_path / "blobs"), f"/api/v1/documents/{uuid4()}"
        versions = f"{path}/versions"
        cases = [
            (await client.put(path, json={}), 422, "missing_field"),
            (await client.put(path, json={"restore": 1}), 422, "unknown_field"),
            (await client.put(path, json={"text": " "}), 422, "invalid_field"),
            (await client.put(path, json={"name": ""}), 422, "invalid_field"),
            (
                await client.put(path, content=b"x", headers={"content-type": "text/plain"}),
                415,
                "unsupported_media_type",
            ),
            (await client.put(path, **file(b"")), 422, "empty_file"),
            (await client.put(path, **file(b"x" * 1_000_001)), 413, "too_large"),
            (await client.post(versions, json={"name": "b"}), 422, "missing_field"),
            (await client.post(versions, json={"restore": 0}), 422, "invalid_field"),
            (await client.post(versions, json={"restore": 1, "name": "b"}), 422, "invalid_field"),
            (await client.post(versions, json={"restore": 2}), 404, "version_not_found"),
            (await client.put(unknown, **file(SECOND)), 404, "document_not_found"),
            (await elsewhere.put(path, **file(SECOND)), 404, "document_not_found"),
            (await elsewhere.put(path, json={"name": "mine"}), 404, "document_not_found"),
            (await elsewhere.post(versions, json={"restore": 1}), 404, "document_not_found"),
            (await elsewhere.get(versions), 404, "document_not_found"),
            (await client.get(f"{unknown}/versions"), 404, "document_not_found"),
            (await client.get(versions, params={"cursor": "x"}), 400, "invalid_cursor"),
            (await client.get(f"{path}/content", params={"version": 2}), 404, "version_not_found"),
            (await client.get(f"{path}/passages", params={"version": 2}), 404, "version_not_found"),
        ]
        for answer, status, code in cases:
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert blobs_in(tmp_path / "blobs") == before
        document = (await client.get(path)).json()
        assert (document["version"], document["name"]) == (1, "a.txt")


async def test_a_list_of_passages_goes_on_in_the_version_that_it_began_with(
    edge: RunningEdge, somebody: Person, embedder: HashEmbedder
) -> None:
    async with edge.client(somebody) as client:
        path = await uploaded(client)
        first = (await client.get(f"{path}/passages", params={"limit": 1})).json()
        await client.put(path, **file(b"one\ntwo\nthree"))
        assert (await told(client, path))[-1]["version"] == 2
        rest = (await client.get(f"{path}/passages", params={"cursor": first["next_cursor"]})).json()
        assert [item["text"] for item in rest["items"]] == ["the second line"]
        mixed = await client.get(f"{path}/passages", params={"cursor": first["next_cursor"], "version": 2})
        assert (mixed.status_code, mixed.json()["code"]) == (400, "invalid_cursor")


async def test_passages_are_as_large_as_a_tenant_has_them(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database, dsn: str, servers: EmbeddedServers,
    tmp_path: Path,
) -> None:  # fmt: skip
    """New versions take the size that is set, and say so; what was cut stays as it was cut."""
    other = person()
    await tell_key(producer, other)
    await enrol(database, somebody)
    await enrol(database, other)
    tenants = {f"t {other.tenant_id}": {"target_tokens": 40, "max_tokens": 60}}
    settings = PassageSettings.model_validate({"tenants": tenants})
    text = " ".join(f"Sentence number {n} says what it has to say." for n in range(120)).encode()

    def size_of(tenant: str | None) -> PassageSize:
        return PassageSize(*settings.of(tenant))

    async with (
        open_room(dsn, servers.kafka_bootstrap, tmp_path) as room,
        room.consuming(),
        room.learning(HashEmbedder(), read=None, size_of=size_of),
        edge.client(somebody) as usual,
        edge.client(other) as small,
    ):
        for client, target, most in ((usual, 220, 400), (small, 40, 60)):
            path = await uploaded(client, text)
            [version] = (await client.get(f"{path}/versions")).json()["items"]
            assert (version["target_tokens"], version["max_tokens"]) == (target, most)
            passages = (await client.get(f"{path}/passages", params={"limit": 200})).json()["items"]
            sizes = [TiktokenCounter().count(passage["text"]) for passage in passages]
            assert max(sizes) <= most
            assert target / 2 < min(sizes[:-1], default=target) <= max(sizes) <= target * 1.2
        settings = PassageSettings(target_tokens=100)
        [document] = (await usual.get("/api/v1/documents")).json()["items"]
        path = f"/api/v1/documents/{document['id']}"
        assert (await usual.put(path, **file(text + b" More."))).status_code == 202
        assert (await told(usual, path))[-1]["status"] == "indexed"
        newer, older = (await usual.get(f"{path}/versions")).json()["items"]
        assert (newer["target_tokens"], older["target_tokens"]) == (100, 220)
        assert newer["n_passages"] > older["n_passages"]
