"""Chats over real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from storage.log.producer import LogProducer
from tests.integration.edge.world import Person, RunningEdge, eventually, person, tell_key

pytestmark = pytest.mark.usefixtures("consumers")


async def test_a_session_lives_and_dies(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        created = (await client.post("/api/v1/sessions", json={"name": "Trip"})).json()
        url = f"/api/v1/sessions/{created['id']}"
        assert (created["name"], created["is_favorite"], created["user_id"]) == ("Trip", False, str(somebody.user_id))
        assert (await client.get(url)).json()["name"] == "Trip"
        renamed = await client.patch(url, json={"name": "Journey"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "Journey")
        marked = await client.patch(f"{url}/favorite", json={"is_favorite": True})
        assert (marked.status_code, marked.json()["is_favorite"]) == (200, True)
        favourites = (await client.get("/api/v1/sessions", params={"favorite": "true"})).json()["items"]
        assert [item["id"] for item in favourites] == [created["id"]]
        assert (await client.delete(url)).status_code == 204
        for gone in (await client.get(url), await client.delete(url), await client.patch(url, json={"name": "x"})):
            assert (gone.status_code, gone.json()["code"]) == (404, "session_not_found")
        assert (await client.get("/api/v1/sessions")).json() == {"items": [], "next_cursor": None}


async def test_sessions_are_listed_newest_first_page_by_page(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        made = [(await client.post("/api/v1/sessions", json={"name": f"s{i}"})).json()["id"] for i in range(5)]
        seen, cursor, n_pages = [], None, 0
        while n_pages == 0 or cursor:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/api/v1/sessions", params=params)).json()
            seen += [item["id"] for item in page["items"]]
            cursor, n_pages = page["next_cursor"], n_pages + 1
        assert (seen, n_pages) == (made[::-1], 3)
        bad = await client.get("/api/v1/sessions", params={"cursor": "garbage"})
        assert (bad.status_code, bad.json()["code"], bad.json()["field"]) == (400, "invalid_cursor", "cursor")


async def test_the_same_key_makes_the_same_session_once(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        key = {"idempotency-key": "k-1"}
        both = await asyncio.gather(
            *(client.post("/api/v1/sessions", json={"name": "One"}, headers=key) for _ in range(3))
        )
        later = await client.post("/api/v1/sessions", json={"name": "One"}, headers=key)
        assert {response.status_code for response in (*both, later)} == {201}
        assert len({response.text for response in (*both, later)}) == 1
        other = await client.post("/api/v1/sessions", json={"name": "Two"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len((await client.get("/api/v1/sessions")).json()["items"]) == 1


async def test_an_answer_need_not_be_awaited(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        response = await client.post("/api/v1/sessions", headers={"prefer": "respond-async"})
        assert (response.status_code, response.json()["status"]) == (202, "accepted")
        assert response.headers["preference-applied"] == "respond-async"
        url = f"/api/v1/sessions/{response.json()['id']}"

        async def is_there() -> bool:
            return (await client.get(url)).status_code == 200

        await eventually(is_there)


async def test_sessions_are_private_to_their_user(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    colleague, admin, stranger = person(somebody.tenant_id), person(somebody.tenant_id, role="admin"), person()
    for who in (colleague, admin, stranger):
        await tell_key(producer, who)
    async with edge.client(somebody) as client:
        url = f"/api/v1/sessions/{(await client.post('/api/v1/sessions')).json()['id']}"
        theirs = {"user_id": str(somebody.user_id)}
        unknown = await client.get(f"/api/v1/sessions/{uuid4()}")
        for who in (colleague, stranger):
            answers = [
                await client.get(url, headers=who.headers),
                await client.get(f"{url}/messages", headers=who.headers),
                await client.delete(url, headers=who.headers),
                await client.post(f"{url}/messages", json={"content": "hi"}, headers=who.headers),
            ]
            for answer in answers:
                assert answer.status_code == 404
                assert answer.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
            assert (await client.get("/api/v1/sessions", headers=who.headers, params=theirs)).status_code == 403
        assert (await client.get(url, headers=admin.headers)).status_code == 200
        listed = (await client.get("/api/v1/sessions", headers=admin.headers, params=theirs)).json()["items"]
        assert len(listed) == 1
