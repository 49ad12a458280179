"""More may not wait than a tenant's limit: 429, and the same request takes effect, once, when there is room again."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from consumers.tenant_limit import RETRY_AFTER_S, TenantLimit
from schemas.ids import new_id
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import upload
from tests.integration.edge.test_messages import end_in_postgres, new_session, post
from tests.integration.edge.world import Person, RunningEdge, person, tell_key

pytestmark = pytest.mark.usefixtures("consumers")


@pytest.fixture
def waiting() -> TenantLimit:
    return TenantLimit(2)


async def test_a_message_beyond_the_limit_is_refused_for_now(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    other = person()
    await tell_key(producer, other)
    async with edge.client(somebody) as client, edge.client(other) as elsewhere:
        sessions = [await new_session(client) for _ in range(3)]
        waiting = [(await post(client, session, "Hello")).json()["completion"]["id"] for session in sessions[:2]]
        key = {"idempotency-key": str(new_id())}
        refused = await post(client, sessions[2], "Too much", headers=key)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, str(RETRY_AFTER_S)), refused.text
        assert (refused.json()["code"], refused.json()["limit"]) == ("too_many_waiting", 2)
        assert "x-should-retry" not in refused.headers
        assert (await post(client, sessions[2], "Too much", headers=key)).status_code == 429
        assert (await post(elsewhere, await new_session(elsewhere), "I have room")).status_code == 202
        await end_in_postgres(database, waiting[0], "complete", "Hi.")
        answers = await asyncio.gather(*(post(client, sessions[2], "Too much", headers=key) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["message"]["id"] for answer in answers}) == 1
        late = await post(client, sessions[2], "Too much", headers=key)
        assert late.json()["message"]["id"] == answers[0].json()["message"]["id"]
        other_body = await post(client, sessions[2], "Something else", headers=key)
        assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency_key_reused")
        items = (await client.get(f"/api/v1/sessions/{sessions[2]}/messages")).json()["items"]
        assert [item["content"] for item in items if item["sender"] == "user"] == ["Too much"]


async def test_a_document_beyond_the_limit_is_refused_for_now(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    async with edge.client(somebody) as client:
        uploaded = [(await upload(client, b"%%PDF-1.4 %d" % n)).json()["id"] for n in range(2)]
        key = {"idempotency-key": str(new_id())}
        refused = await upload(client, b"%PDF-1.4 third", headers=key)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_waiting"), refused.text
        version = await client.put(f"/api/v1/documents/{uploaded[0]}", files={"file": ("a", b"new bytes")})
        assert (version.status_code, version.json()["code"]) == (429, "too_many_waiting"), "a new version waits too"
        assert len((await client.get("/api/v1/documents")).json()["items"]) == 2
        async with database.transaction() as work:
            await work.execute(
                "UPDATE document_versions SET status = 'indexed' WHERE document_id = $1", UUID(uploaded[0])
            )
        added = await upload(client, b"%PDF-1.4 third", headers=key)
        assert added.status_code in {200, 201, 202}, added.text
        content = await client.get(f"/api/v1/documents/{added.json()['id']}/content")
        assert content.content == b"%PDF-1.4 third"
        assert len((await client.get("/api/v1/documents")).json()["items"]) == 3


async def test_requests_at_once_do_not_go_beyond_the_limit(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        sessions = [await new_session(client) for _ in range(12)]
        posts = await asyncio.gather(*(post(client, session, "Hello") for session in sessions))
        assert sorted(answer.status_code for answer in posts) == [202] * 2 + [429] * 10
        uploads = await asyncio.gather(*(upload(client, b"%%PDF-1.4 %d" % n) for n in range(8)))
        assert sorted(answer.status_code for answer in uploads)[2:] == [429] * 6
        assert len((await client.get("/api/v1/documents")).json()["items"]) == 2
