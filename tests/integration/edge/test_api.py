"""What all routes share: who may enter, ids in and out, problems, the OpenAPI document, health."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from providers.ports import ProviderError
from schemas.errors import Retry
from schemas.topics import IDENTITY_STATE
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import Person, RunningEdge, enrol, person, tell_key

ID = "01a1fc56-75b1-713d-b3c7-e8ed84900734"


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code), response.text
    assert problem["type"] == f"urn:ragline:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


async def test_nobody_enters_without_a_key(edge: RunningEdge) -> None:
    async with edge.client() as client:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": f"Bearer {'0' * 64}"}):
            for method, path in (
                ("GET", "/api/v1/sessions"),
                ("POST", f"/api/v1/sessions/{ID}/messages"),
                ("GET", f"/api/v1/completions/{ID}/stream"),
                ("POST", "/api/v1/documents"),
                ("GET", "/api/v1/nothing"),
            ):
                refused = await client.request(method, path, headers=headers)
                assert_problem(refused, 401, "unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_key_that_only_postgresql_knows_is_good(edge: RunningEdge, database: Database) -> None:
    newcomer = person()
    await enrol(database, newcomer)
    async with edge.client(newcomer) as client:
        assert (await client.get("/api/v1/sessions")).status_code == 200


async def test_expired_and_removed_keys_are_refused(edge: RunningEdge, producer: LogProducer) -> None:
    expired, removed, known = person(), person(), person()
    await tell_key(producer, expired, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await tell_key(producer, removed)
    await producer.send_raw(IDENTITY_STATE.name, f"key:{removed.key_id}".encode(), None, [])
    await tell_key(producer, known)
    identity = edge.edge._running.identity
    await identity.tail.until(await identity.tail.end_offsets())
    async with edge.client() as client:
        for who, status in ((expired, 401), (removed, 401), (known, 200)):
            assert (await client.get("/api/v1/sessions", headers=who.headers)).status_code == status


async def test_ids_come_back_as_they_were_given_or_minted(edge: RunningEdge, somebody: Person) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with edge.client(somebody) as client:
        given = await client.get("/api/v1/sessions", headers={"x-request-id": "r-1", "traceparent": trace})
        assert (given.headers["x-request-id"], given.headers["traceparent"]) == ("r-1", trace)
        no_trace = f"00-{'0' * 32}-{'b' * 16}-01"
        for bad in ({"x-request-id": "a b"}, {"traceparent": no_trace}, {"x-request-id": "x" * 129}):
            minted = await client.get("/health/live", headers=bad)
            assert minted.headers["x-request-id"] not in {"", *bad.values()}
            assert minted.headers["traceparent"] not in bad.values()
            assert len(minted.headers["traceparent"]) == 55


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/api/v1/sessions/", 404, "not_found"),
        ("PUT", "/api/v1/sessions", 405, "method_not_allowed"),
        ("PUT", f"/api/v1/sessions/{ID}/messages", 405, "method_not_allowed"),
        ("POST", f"/api/v1/completions/{ID}/stream", 405, "method_not_allowed"),
        ("GET", "/api/v1/sessions/x", 404, "session_not_found"),
        ("GET", f"/api/v1/sessions/{ID}", 404, "session_not_found"),
        ("GET", "/api/v1/sessions/x/messages", 404, "session_not_found"),
        ("POST", "/api/v1/sessions/x/messages", 404, "session_not_found"),
        ("POST", "/api/v1/sessions/a/b/messages", 404, "session_not_found"),
        ("DELETE", "/api/v1/sessions/x", 404, "session_not_found"),
        ("GET", "/api/v1/completions/x", 404, "completion_not_found"),
        ("POST", "/api/v1/completions/x/cancel", 404, "completion_not_found"),
        ("PATCH", "/api/v1/messages/x", 404, "message_not_found"),
        ("GET", "/api/v1/documents/x", 404, "document_not_found"),
        ("GET", "/api/v1/documents/x/content", 404, "document_not_found"),
        ("GET", f"/api/v1/documents/{ID}/passages", 404, "document_not_found"),
        ("GET", "/api/v1/sessions?limit=x", 422, "invalid_field"),
        ("GET", "/api/v1/sessions?favorite=x", 422, "invalid_field"),
        ("GET", "/api/v1/sessions?user_id=x", 422, "invalid_field"),
        ("GET", "/api/v1/sessions?cursor=%00", 400, "invalid_cursor"),
        ("GET", "/api/v1/documents?type=%00", 422, "invalid_field"),
        ("GET", "/api/v1/documents?status=x", 422, "invalid_field"),
        ("GET", f"/api/v1/documents/{ID}/content?as=x", 422, "invalid_field"),
        ("PATCH", f"/api/v1/sessions/{ID}", 415, "unsupported_media_type"),
    ],
)
async def test_every_error_is_a_problem(
    edge: RunningEdge, somebody: Person, method: str, path: str, status: int, code: str
) -> None:
    async with edge.client(somebody) as client:
        assert_problem(await client.request(method, path), status, code)


async def test_a_method_that_is_not_taken_names_those_that_are(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        assert (await client.put("/api/v1/search")).headers["allow"] == "POST"


async def test_a_bug_is_a_problem_too_and_tells_nothing_of_the_inside(
    edge: RunningEdge, somebody: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(edge.searcher, "find", broken)
    async with edge.client(somebody) as client:
        problem = assert_problem(await client.post("/api/v1/search", json={"query": "x"}), 500, "internal_error")
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize("error", [Retry("PostgreSQL: gone"), ProviderError("auth", "a secret", retryable=False)])
async def test_search_that_is_away_is_a_503(
    edge: RunningEdge, somebody: Person, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also where the embedding model refuses: the reason is the operators'."""

    async def away(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(edge.searcher, "find", away)
    async with edge.client(somebody) as client:
        problem = assert_problem(await client.post("/api/v1/search", json={"query": "x"}), 503, "search_unavailable")
    assert str(error) not in json.dumps(problem)


async def test_one_document_shows_every_route(edge: RunningEdge) -> None:
    async with edge.client() as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
        assert page.status_code == 200
        assert "//" not in page.text.replace("<!--", "").partition("<script>")[0], "nothing comes from another host"
        assert (await client.get("/docs/assets/swagger-ui-bundle.js")).status_code == 200
    paths = document["paths"]
    assert {"get", "post"} <= set(paths["/api/v1/sessions/{session_id}/messages"])
    assert set(paths["/api/v1/completions/{completion_id}/stream"]) == {"get"}
    search = paths["/api/v1/messages/search"]["get"]
    assert {parameter["name"] for parameter in search["parameters"]} == {"q", "cursor", "limit"}
    for operations in paths.values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}
    assert paths["/api/v1/search"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/health/ready"]["get"]
    schemas = document["components"]["schemas"]
    named = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                named.add(node["$ref"].rpartition("/")[2])
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(document)
    assert named <= set(schemas)
    assert "HTTPValidationError" not in json.dumps(document)


async def test_health_says_what_it_is(edge: RunningEdge) -> None:
    async with edge.client() as client:
        health = (await client.get("/health")).json()
        assert (health["status"], health["version"]) == ("ready", "1.2.3")
        assert set(health["checks"]) == {"publish", "identity", "events", "chunks", "postgres"}
