"""Messages over real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from schemas.envelope import Envelope
from schemas.events import CompletionCancelled
from schemas.http import PostedMessage
from schemas.topics import CHAT_EVENTS
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import MODEL_NAMES, Person, RunningEdge, Writer, events_of, eventually, shown

pytestmark = pytest.mark.usefixtures("consumers")


async def new_session(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/v1/sessions")
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


async def post(client: httpx.AsyncClient, session_id: str, content: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return await client.post(
        f"/api/v1/sessions/{session_id}/messages", json={"content": content, **more}, headers=headers
    )


async def end_in_postgres(database: Database, completion_id: str, status: str, text: str) -> None:
    """As the completions' final transaction leaves the rows."""
    is_complete = status == "complete"
    async with database.transaction() as work:
        message_id = await work.fetchval(
            "UPDATE completions SET status = $2, checkpoint_text = $3, checkpoint_end = $4, checkpoint_seq = 1,"
            " chunk_ends = $5, finished_at = now(), model = 'fast', input_tokens = 3, output_tokens = 4"
            " WHERE id = $1 RETURNING message_id",
            UUID(completion_id),
            status,
            "" if is_complete else text,
            len(text),
            [len(text)],
        )
        await work.execute(
            "UPDATE messages SET status = $2, content = $3, partial_content = $4, model = 'fast', updated_at = now()"
            " WHERE id = $1",
            message_id,
            status,
            text if is_complete else "",
            None if is_complete else text,
        )


async def test_messages_stand_in_the_order_of_the_conversation(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        posted = [(await post(client, session_id, f"q{i}")).json() for i in range(3)]
        await end_in_postgres(database, posted[0]["completion"]["id"], "complete", "a0")
        url = f"/api/v1/sessions/{session_id}/messages"
        items = (await client.get(url)).json()["items"]
        assert [item["content"] for item in items] == ["q0", "a0", "q1", "", "q2", ""]
        assert [item["sender"] for item in items] == ["user", "ai"] * 3
        assert [item["parent_id"] for item in items] == [None, *(item["id"] for item in items[:-1])]
        assert items[0]["id"] == posted[0]["message"]["id"]
        assert items[1] == items[1] | {"status": "complete", "model": "fast", "partial_content": None}
        assert items[3] == items[3] | {"status": "pending", "completion_id": posted[1]["completion"]["id"]}
        first = (await client.get(url, params={"limit": "4"})).json()
        rest = (await client.get(url, params={"limit": "4", "cursor": first["next_cursor"]})).json()
        assert [*first["items"], *rest["items"]] == items
        assert rest["next_cursor"] is None
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["name"] == "q0"


async def test_a_checkpoint_shows_as_partial_content(edge: RunningEdge, somebody: Person, database: Database) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        completion = (await post(client, session_id, "q")).json()["completion"]
        async with database.transaction() as work:
            await work.execute(
                "UPDATE completions SET status = 'in_progress', checkpoint_text = 'so far' WHERE id = $1",
                UUID(completion["id"]),
            )
        read = (await client.get(f"/api/v1/completions/{completion['id']}")).json()
        assert (read["status"], read["content"]) == ("in_progress", "so far")
        items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
        assert items[1]["partial_content"] == "so far"


async def test_duplicates_join_and_get_the_same_answer(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        session_id, key = await new_session(client), {"idempotency-key": "m"}
        answers = await asyncio.gather(*(post(client, session_id, "once", headers=key) for _ in range(4)))
        answers.append(await post(client, session_id, "once", headers=key))
        told = PostedMessage.model_validate_json(answers[0].content)
        assert told.model_dump(mode="json") == answers[0].json(), "made by hand, and every field of the model is there"
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.text for answer in answers}) == 1
        other = await post(client, session_id, "twice", headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len((await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]) == 2


async def test_what_the_transcript_refuses_the_caller_is_told(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        unknown = await post(client, str(uuid4()), "hi")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "session_not_found")
        assert unknown.headers["content-type"] == "application/problem+json"
        parent = await post(client, session_id, "hi", parent_id=str(uuid4()))
        assert (parent.status_code, parent.json()["field"]) == (404, "parent_id")
        await post(client, session_id, "hi")
        busy = await post(client, session_id, "hi", if_busy="reject")
        assert (busy.status_code, busy.json()["code"], busy.json()["field"]) == (409, "session_busy", "if_busy")
        model = (await post(client, session_id, "hi", model="fats")).json()
        assert (model["status"], model["code"], model["field"]) == (422, "unknown_model", "model")
        assert all(name in model["detail"] for name in MODEL_NAMES)


async def test_the_same_request_streams_the_answer(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        url = f"/api/v1/sessions/{session_id}/messages"
        streaming = {"accept": "text/event-stream"}
        async with client.stream("POST", url, json={"content": "q"}, headers=streaming) as response:
            assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            stream = events_of(response)
            started = await anext(stream)
            assert started.data["id"] == response.headers["x-completion-id"]
            writer = Writer(producer, somebody, UUID(started.data["id"]), UUID(started.data["message_id"]))
            await writer.open()
            await writer.write("an answer")
            await writer.finish("failed", error={"code": "boom", "message": "it broke"})
            rest = [event async for event in stream]
        assert (shown(rest), rest[-1].name, rest[-1].data["error"]["code"]) == ("an answer", "failed", "boom")
        items = (await client.get(url)).json()["items"]
        assert items[0]["id"] == started.data["user_message_id"]
        refused = await client.post(f"/api/v1/sessions/{uuid4()}/messages", json={"content": "q"}, headers=streaming)
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")


async def test_edit_and_regenerate_branch_and_resume_continues(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        posted = (await post(client, session_id, "first")).json()
        await end_in_postgres(database, posted["completion"]["id"], "failed", "half an")
        resumed = await client.post(f"/api/v1/sessions/{session_id}/resume")
        assert resumed.status_code == 202, resumed.text
        completion = resumed.json()["completion"]
        assert completion["message_id"] == posted["completion"]["message_id"]
        assert completion["id"] != posted["completion"]["id"]
        again = await client.post(f"/api/v1/sessions/{session_id}/resume")
        assert (again.status_code, again.json()["completion"]["id"]) == (202, completion["id"])
        async with client.stream("GET", completion["stream_url"]) as response:
            stream = events_of(response)
            assert [(await anext(stream)).name, (await anext(stream)).data["text"]] == ["started", "half an"]
        await end_in_postgres(database, completion["id"], "complete", "half an answer")
        over = await client.post(f"/api/v1/sessions/{session_id}/resume")
        assert (over.status_code, over.json()["code"]) == (409, "already_complete")
        other = await client.post(f"/api/v1/messages/{completion['message_id']}/regenerate", json={"model": "fast"})
        assert other.status_code == 202, other.text
        edited = await client.patch(f"/api/v1/messages/{posted['message']['id']}", json={"content": "better"})
        assert edited.status_code == 202, edited.text
        items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
        assert [item["content"] for item in items] == ["better", ""]
        foreign = await client.patch(f"/api/v1/messages/{uuid4()}", json={"content": "x"})
        assert (foreign.status_code, foreign.json()["code"]) == (404, "message_not_found")


async def test_cancel_waits_for_the_end(edge: RunningEdge, somebody: Person, database: Database) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        queued = (await post(client, session_id, "q")).json()["completion"]["id"]
        cancelled = await client.post(f"/api/v1/completions/{queued}/cancel")
        assert (cancelled.status_code, cancelled.json()) == (200, {"id": queued, "status": "cancelled"})
        again = await client.post(f"/api/v1/completions/{queued}/cancel")
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
        running = (await post(client, session_id, "q")).json()["completion"]["id"]
        async with database.transaction() as work:
            await work.execute("UPDATE completions SET status = 'in_progress' WHERE id = $1", UUID(running))
        held = await client.post(f"/api/v1/completions/{running}/cancel", headers={"prefer": "wait=1"})
        assert (held.status_code, held.json()["status"]) == (202, "cancelling")
        await end_in_postgres(database, running, "cancelled", "so far")
        over = await client.post(f"/api/v1/completions/{running}/cancel")
        assert (over.status_code, over.json()["status"]) == (200, "cancelled")
        unknown = await client.post(f"/api/v1/completions/{uuid4()}/cancel")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "completion_not_found")


async def test_cancel_hears_the_holder_end_it(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        completion = (await post(client, session_id, "q")).json()["completion"]
        id_ = UUID(completion["id"])
        async with database.transaction() as work:
            await work.execute("UPDATE completions SET status = 'in_progress' WHERE id = $1", id_)
        cancelling = asyncio.create_task(client.post(f"/api/v1/completions/{id_}/cancel"))

        async def is_cancelling() -> bool:
            return bool((await client.get(f"/api/v1/completions/{id_}")).json()["status"] == "cancelling")

        await eventually(is_cancelling)
        for ended in (uuid4(), id_):
            body = CompletionCancelled(
                session_id=UUID(session_id),
                session_version=9,
                completion_id=ended,
                message_id=UUID(completion["message_id"]),
                attempt=1,
                partial_content="",
            )
            envelope = Envelope(body=body, tenant_id=somebody.tenant_id, source="test")
            await producer.publish(CHAT_EVENTS, envelope, timeout_s=5)
        answer = await cancelling
        assert (answer.status_code, answer.json()) == (200, {"id": str(id_), "status": "cancelled"})


@pytest.mark.parametrize(
    ("body", "headers", "status", "field"),
    [
        (b'{"content": ""}', {}, 422, "content"),
        (json.dumps({"content": "x" * 100_001}).encode(), {}, 422, "content"),
        (b'{"content": "a\\u0000"}', {}, 422, "content"),
        (b'{"content": "a\\udc00"}', {}, 422, "content"),
        (b'{"content": "a", "x": 1}', {}, 422, "x"),
        (b'{"content": ', {}, 400, None),
        (b'{"content": "a"}', {"content-type": "text/plain"}, 415, None),
        (b'{"content": "' + b"a" * 2_200_000 + b'"}', {}, 413, "body"),
        (b'{"content": "a"}', {"idempotency-key": "x" * 300}, 422, "Idempotency-Key"),
    ],
)
async def test_bad_input_is_a_clear_problem(
    edge: RunningEdge, somebody: Person, body: bytes, headers: dict[str, str], status: int, field: str | None
) -> None:
    async with edge.client(somebody) as client:
        headers = {"content-type": "application/json", **headers}
        response = await client.post(f"/api/v1/sessions/{uuid4()}/messages", content=body, headers=headers)
        assert (response.status_code, response.json().get("field")) == (status, field), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_the_longest_content_of_the_widest_characters_is_taken(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        answer = await client.post(
            f"/api/v1/sessions/{session_id}/messages",
            content=json.dumps({"content": "🦊" * 100_000}).encode(),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 202, answer.text
        items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
        assert items[0]["content"] == "🦊" * 100_000
