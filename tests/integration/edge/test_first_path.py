"""The thinnest path: health, a session, a message, its streamed answer."""

from __future__ import annotations

from uuid import UUID

import pytest

from storage.log.producer import LogProducer
from tests.integration.edge.world import Person, RunningEdge, Writer, events_of, shown

pytestmark = pytest.mark.usefixtures("consumers")


async def test_a_message_is_posted_and_its_answer_streamed(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready"), ready.text
        created = await client.post("/api/v1/sessions")
        assert created.status_code == 201, created.text
        session_id = created.json()["id"]
        posted = await client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": "What is it?"})
        assert posted.status_code == 202, posted.text
        message, completion = posted.json()["message"], posted.json()["completion"]
        assert (message["content"], message["sender"], message["status"]) == ("What is it?", "user", "complete")
        assert completion["status"] == "pending"
        writer = Writer(producer, somebody, UUID(completion["id"]), UUID(completion["message_id"]))
        async with client.stream("GET", completion["stream_url"]) as response:
            assert response.status_code == 200
            stream = events_of(response)
            first = await anext(stream)
            assert (first.name, first.data["status"], first.id) == ("started", "pending", None)
            await writer.open()
            await writer.write("It is ")
            await writer.write("a test.")
            await writer.finish(model="fast")
            rest = [event async for event in stream]
        assert shown(rest) == "It is a test."
        assert rest[-1].name == "completed"
        assert rest[-1].data == {
            "id": completion["id"],
            "message_id": completion["message_id"],
            "status": "complete",
            "model": "fast",
        }
