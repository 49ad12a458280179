"""Documents over real Kafka and PostgreSQL; the learning itself is played by the test."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from schemas.attributes import Attributes
from schemas.envelope import Envelope
from schemas.events import DocumentEvent, DocumentIndexed, DocumentParsed, PassagesEmbedded
from schemas.topics import KNOWLEDGE_EVENTS
from storage.log.producer import LogProducer
from storage.ports import DocumentFilter
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import Person, RunningEdge, events_of, eventually, person, tell_key

pytestmark = pytest.mark.usefixtures("consumers")

PDF = ("paper.pdf", b"%PDF-1.7 not really", "application/pdf")


def blobs_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def upload(client: httpx.AsyncClient, data: bytes = PDF[1], **more: object) -> httpx.Response:
    headers = more.pop("headers", {})
    return await client.post(
        "/api/v1/documents",
        files={"file": (PDF[0], data, PDF[2])},
        data=more,
        headers=headers,  # type: ignore[arg-type]
    )


async def tell(producer: LogProducer, who: Person, body: DocumentEvent) -> None:
    envelope = Envelope(body=body, tenant_id=who.tenant_id, source="test")
    await producer.publish(KNOWLEDGE_EVENTS, envelope, timeout_s=5)


async def test_an_upload_is_kept_as_it_was_sent(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        answer = await upload(client, name="Ein Bär.pdf", tags=["a, b", "c"], type="curated_dataset")
        assert answer.status_code == 202, answer.text
        document = answer.json()
        assert document == document | {
            "name": "Ein Bär.pdf",
            "type": "curated_dataset",
            "tags": ["a", "b", "c"],
            "status": "queued",
            "media_type": "application/pdf",
            "size_bytes": len(PDF[1]),
            "error": None,
            "version": 1,
        }
        url = f"/api/v1/documents/{document['id']}"
        read = (await client.get(url)).json()
        assert {**read, "updated_at": ""} == {**document, "updated_at": ""}
        content = await client.get(f"{url}/content")
        assert (content.content, content.headers["content-type"]) == (PDF[1], "application/pdf")
        expected = "attachment; filename=\"Ein B_r.pdf\"; filename*=UTF-8''Ein%20B%C3%A4r.pdf"
        assert content.headers["content-disposition"] == expected
        assert content.headers["x-content-type-options"] == "nosniff"
        text = await client.get(f"{url}/content", params={"as": "text"})
        assert (text.status_code, text.json()["code"]) == (404, "content_not_found")
        await edge.blobs.put_bytes(
            f"tenants/{somebody.tenant_id}/documents/{document['id']}/v1/text.txt", "schön".encode()
        )
        text = await client.get(f"{url}/content", params={"as": "text"})
        assert (text.text, text.headers["content-type"]) == ("schön", "text/plain; charset=utf-8")
        listed = (await client.get("/api/v1/documents", params={"status": "queued", "type": "curated_dataset"})).json()
        assert [item["id"] for item in listed["items"]] == [document["id"]]
        assert (await client.get("/api/v1/documents", params={"status": "failed"})).json()["items"] == []
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).status_code == (await client.delete(url)).status_code == 404


async def test_text_is_a_document_too(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        answer = await client.post("/api/v1/documents", json={"text": "# Hi\n\nthere", "name": "notes.md"})
        assert (answer.status_code, answer.json()["media_type"]) == (202, "text/markdown"), answer.text
        content = await client.get(f"/api/v1/documents/{answer.json()['id']}/content")
        assert content.text == "# Hi\n\nthere"


async def test_the_same_bytes_stand_once_in_a_tenant(
    edge: RunningEdge, somebody: Person, producer: LogProducer, tmp_path: Path
) -> None:
    stranger = person()
    await tell_key(producer, stranger)
    async with edge.client(somebody) as client, edge.client(stranger) as elsewhere:
        first = (await upload(client)).json()
        again = await upload(client, name="other")
        assert (again.status_code, again.json()["code"]) == (409, "duplicate_document")
        assert again.json()["document_id"] == first["id"]
        assert len(blobs_in(tmp_path / "blobs")) == 1
        assert (await upload(elsewhere)).status_code == 202
        assert (await elsewhere.get(f"/api/v1/documents/{first['id']}")).status_code == 404
        assert len((await elsewhere.get("/api/v1/documents")).json()["items"]) == 1


async def test_duplicates_join_and_leave_one_blob(edge: RunningEdge, somebody: Person, tmp_path: Path) -> None:
    async with edge.client(somebody) as client:
        key = {"idempotency-key": "u-1"}
        answers = await asyncio.gather(*(upload(client, headers=key) for _ in range(3)))
        assert [answer.status_code for answer in answers] == [202] * 3
        assert len({answer.text for answer in answers}) == 1
        other = await upload(client, b"%PDF other", headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

        async def one_blob() -> bool:
            return len(blobs_in(tmp_path / "blobs")) == 1

        await eventually(one_blob)
        content = await client.get(f"/api/v1/documents/{answers[0].json()['id']}/content")
        assert content.content == PDF[1]


async def test_a_refused_upload_leaves_nothing(edge: RunningEdge, somebody: Person, tmp_path: Path) -> None:
    async with edge.client(somebody) as client:
        cases = [
            (await upload(client, b""), 422, "file"),
            (await upload(client, b"x" * 1_000_001), 413, "file"),
            (await upload(client, colour="red"), 422, "colour"),
            (await upload(client, type="No Type"), 422, "type"),
            *[(await upload(client, name=f"a{sign}b"), 422, "name") for sign in "\x00\x1b\n\u202e"],
            (await client.post("/api/v1/documents", files={"other": b"x"}), 422, "file"),
            (await client.post("/api/v1/documents", content=b"x", headers={"content-type": "text/plain"}), 415, None),
            (await client.post("/api/v1/documents", json={"text": "x"}), 422, "name"),
            (await client.post("/api/v1/documents", json={"name": "x"}), 422, "text"),
            (await client.post("/api/v1/documents", json={"text": "", "name": "x"}), 422, "text"),
            (await client.post("/api/v1/documents", json={"url": "https://example.com"}), 422, "url"),
            (await client.post("/api/v1/documents", json={"text": "x" * 1_000_001, "name": "x"}), 413, "body"),
        ]
        for answer, status, field in cases:
            assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
        assert blobs_in(tmp_path / "blobs") == []


@pytest.mark.parametrize("framing", ["Content-Length: 2000000000", "Transfer-Encoding: chunked"])
async def test_a_huge_upload_is_refused_before_it_is_read(
    edge: RunningEdge, somebody: Person, tmp_path: Path, framing: str
) -> None:
    """The client listens while it sends; it is answered long before two gigabytes are through."""
    piece = bytes(1_000_000)
    head = (
        f"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {somebody.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\n{framing}\r\n\r\n"
    )
    first = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.base_url.rpartition(":")[2]))
    n_sent = 0

    async def send() -> None:
        nonlocal n_sent
        writer.write(head.encode())
        for data in (first, *(piece for _ in range(2_000))):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if "chunked" in framing else data)
            await writer.drain()
            n_sent += len(data)

    sending = asyncio.create_task(send())
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
    assert n_sent < 100_000_000
    writer.close()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    headers, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert headers.startswith(b"HTTP/1.1 413 ")
    assert (problem["code"], problem["limit"] >= 1_000_000) == ("too_large", True)
    assert blobs_in(tmp_path / "blobs") == []


async def test_an_upload_cut_short_leaves_nothing(edge: RunningEdge, somebody: Person, tmp_path: Path) -> None:
    head = (
        f"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {somebody.key}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 500000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    port = int(edge.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + bytes(100_000))
        async with asyncio.timeout(10):
            while not blobs_in(tmp_path / "blobs"):
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while blobs_in(tmp_path / "blobs"):
            await asyncio.sleep(0.01)
    async with edge.client(somebody) as client:
        assert (await client.get("/api/v1/documents")).json()["items"] == []


async def test_learning_is_followed_to_its_end(
    edge: RunningEdge, somebody: Person, producer: LogProducer, database: Database
) -> None:
    async with edge.client(somebody) as client:
        document = (await upload(client)).json()
        id_ = UUID(document["id"])
        async with client.stream("GET", f"/api/v1/documents/{id_}/events") as response:
            assert response.status_code == 200
            stream = events_of(response)
            first = await anext(stream)
            assert (first.name, first.data["status"]) == ("progress", "queued")
            parsed = DocumentParsed(
                document_id=id_, version=1, media_type="application/pdf", n_pages=1, n_passages=2, n_tokens=9
            )
            await tell(producer, somebody, parsed)
            await tell(producer, somebody, PassagesEmbedded(document_id=id_, version=1, n_embedded=2, n_passages=2))
            indexed = DocumentIndexed(document_id=id_, version=1, n_pages=1, n_passages=2, n_tokens=9)
            await tell(producer, somebody, indexed)
            rest = [event async for event in stream]
        assert [event.name for event in rest] == ["progress", "progress", "indexed"]
        assert [event.data["status"] for event in rest] == ["embedding", "indexing", "indexed"]
        unknown = await client.get(f"/api/v1/documents/{uuid4().hex}/events")
        assert unknown.status_code == 404


async def test_passages_are_listed_in_order(edge: RunningEdge, somebody: Person, database: Database) -> None:
    async with edge.client(somebody) as client:
        document_id = UUID((await upload(client)).json()["id"])
        async with database.transaction() as work:
            for i in range(3):
                await work.execute(
                    "INSERT INTO passages (id, tenant_id, document_id, version, batch, ordinal, text, page, span_start,"
                    " span_end, heading_path, n_tokens, content_hash)"
                    " VALUES ($1, $2, $3, 1, 0, $4, $5, 1, $6, $7, '{H}', 1, '')",
                    uuid4(),
                    somebody.tenant_id,
                    document_id,
                    i,
                    f"p{i}",
                    i * 10,
                    i * 10 + 2,
                )
        url = f"/api/v1/documents/{document_id}/passages"
        first = (await client.get(url, params={"limit": "2"})).json()
        rest = (await client.get(url, params={"cursor": first["next_cursor"]})).json()
        passages = [*first["items"], *rest["items"]]
        assert [passage["text"] for passage in passages] == ["p0", "p1", "p2"]
        assert passages[1] == passages[1] | {"start": 10, "end": 12, "page": 1, "heading_path": ["H"], "version": 1}
        assert rest["next_cursor"] is None


async def test_search_asks_for_the_callers_tenant(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        document_id = uuid4()
        filters = {
            "document_ids": [str(document_id)],
            "types": ["curated_dataset"],
            "tags": ["a", "b"],
            "created_after": "2026-01-01T00:00:00+02:00",
        }
        sent = {"query": "bears", "limit": 3, "mode": "text", "filters": filters, "rerank": True}
        found = await client.post("/api/v1/search", json=sent)
        assert found.status_code == 200, found.text
        item = found.json()["items"][0]
        assert item == item | {"text": "about bears", "score": 0.5, "page": 3, "heading_path": ["A", "B"]}
        assert found.json()["reranked"] == "fake"
        after = datetime(2025, 12, 31, 22, tzinfo=UTC)
        documents = DocumentFilter((document_id,), ("curated_dataset",), ("a", "b"), created_after=after)
        assert edge.searcher.asked == [(somebody.tenant_id, "bears", 3, "text", documents, True)]
        for bad, field in (
            ({"query": ""}, "query"),
            ({"query": "x", "limit": 0}, "limit"),
            ({"query": "x", "limit": 101}, "limit"),
            ({"query": "x", "mode": "y"}, "mode"),
            ({"query": "x", "rerank": "yes"}, "rerank"),
            ({"query": "x", "filters": {"colour": 1}}, "filters.colour"),
            ({"query": "x", "filters": {"types": ["No type"]}}, "filters.types.0"),
            ({"query": "x", "filters": {"created_after": "2026-01-01T00:00:00"}}, "filters.created_after"),
            ({"query": "x", "filters": {"created_after": 5}}, "filters.created_after"),
            ({"query": "x", "filters": {"created_before": "0001-01-01T00:00:00+14:00"}}, "filters.created_before"),
        ):
            refused = await client.post("/api/v1/search", json=bad)
            assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_attributes_are_kept_changed_shown_and_searched_by(edge: RunningEdge, somebody: Person) -> None:
    said: Attributes = {"team": "compilers", "year": 2026, "score": 0.5, "draft": False}
    async with edge.client(somebody) as client:
        added = await upload(client, attributes=json.dumps(said))
        assert (added.status_code, added.json()["attributes"]) == (202, said), added.text
        url = f"/api/v1/documents/{added.json()['id']}"
        assert (await client.get(url)).json()["attributes"] == said
        named = await client.put(url, json={"name": "b"})
        assert (named.status_code, named.json()["attributes"]) == (200, said), "what is not sent stays"
        changed = await client.put(url, json={"attributes": {"year": 2027}})
        assert (changed.status_code, changed.json()["attributes"]) == (200, {"year": 2027}), changed.text
        text = {"text": "x", "name": "c", "attributes": {"is_new": True}}
        assert (await client.post("/api/v1/documents", json=text)).json()["attributes"] == {"is_new": True}
        search = {"query": "x", "filters": {"attributes": said}}
        assert (await client.post("/api/v1/search", json=search)).status_code == 200
        [(_, _, _, _, documents, _)] = edge.searcher.asked
        assert documents == DocumentFilter(attributes=tuple(said.items()))


async def test_attributes_are_bounded(edge: RunningEdge, somebody: Person) -> None:
    many = {f"a{n}": n for n in range(21)}
    wrong_names: list[object] = [{"1st": 1}, {"": 1}, {"a b": 1}, {"x" * 51: 1}, many, ["a"], "a"]
    wrong_values = (None, [1], {"b": 1}, "x" * 201, "\x00", 2**53, -(2**53), 1e300)
    async with edge.client(somebody) as client:
        for attributes in [*wrong_names, *({"a": value} for value in wrong_values)]:
            for answer in (
                await client.post("/api/v1/documents", json={"text": "x", "name": "a", "attributes": attributes}),
                await upload(client, attributes=json.dumps(attributes)),
                await client.post("/api/v1/search", json={"query": "x", "filters": {"attributes": attributes}}),
            ):
                assert (answer.status_code, answer.json().get("code")) == (422, "invalid_field"), attributes
                assert "attributes" in answer.json()["field"]
        no_json = await upload(client, attributes="{no JSON")
        assert (no_json.status_code, no_json.json()["field"]) == (422, "attributes")
