"""`GET /metrics` of an edge: what was done is counted, by templates and classes and never by what was in it."""

from __future__ import annotations

from uuid import UUID

import pytest

from schemas.commands import CreateSession
from schemas.envelope import Envelope
from schemas.ids import new_id
from storage.log.producer import LogProducer, all_acked
from tests.integration.edge.world import Person, RunningEdge, Writer, events_of, eventually
from tests.integration.telemetry.samples import Samples

pytestmark = pytest.mark.usefixtures("consumers")

MESSAGES = "/api/v1/sessions/{session_id}/messages"
STREAM = "/api/v1/completions/{completion_id}/stream"


async def _scrape(edge: RunningEdge) -> Samples:
    async with edge.client() as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Samples(answer.text)


def _requests(samples: Samples, method: str, route: str, status: str) -> float:
    return samples.get("http_request_seconds_count", method=method, route=route, status=status)


async def test_requests_are_counted_by_route_template_and_class_of_status(edge: RunningEdge, somebody: Person) -> None:
    before = await _scrape(edge)
    async with edge.client(somebody) as client:
        session_id = (await client.post("/api/v1/sessions")).json()["id"]
        await client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": "hello"})
        await client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": 3})
        await client.get(f"/api/v1/sessions/{session_id}")
        await client.get(f"/nowhere/{session_id}")
        await client.request("BREW", "/health")
    after = await _scrape(edge)
    expected = {
        ("POST", "/api/v1/sessions", "2xx"): 1,
        ("POST", MESSAGES, "2xx"): 1,
        ("POST", MESSAGES, "4xx"): 1,
        ("GET", "/api/v1/sessions/{session_id}", "2xx"): 1,
        ("GET", "unmatched", "4xx"): 1,
    }
    assert {key: _requests(after, *key) - _requests(before, *key) for key in expected} == expected
    assert session_id not in after.text
    assert after.labels("http_request_seconds_count", "method") <= {"GET", "POST", "PATCH", "PUT", "DELETE", "other"}


async def test_an_open_stream_is_seen_and_its_answer_began_at_once(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    before = await _scrape(edge)
    async with edge.client(somebody) as client:
        session_id = (await client.post("/api/v1/sessions")).json()["id"]
        posted = await client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": "hello"})
        completion = posted.json()["completion"]
        writer = Writer(producer, somebody, UUID(completion["id"]), UUID(completion["message_id"]))
        async with client.stream("GET", completion["stream_url"]) as response:
            stream = events_of(response)
            await anext(stream)
            during = await _scrape(edge)
            await writer.open()
            await writer.write("first")
            assert (await anext(stream)).name == "delta"
            await writer.open()
            await writer.write("again", restart=True)
            await writer.finish(model="fast")
            names = [event.name async for event in stream]
            assert (names[0], names[-1]) == ("reset", "completed")
    assert during.get("stream_open") - before.get("stream_open") == 1
    assert during.get("http_requests_in_flight") - before.get("http_requests_in_flight") == 1

    async def is_counted() -> bool:
        after = await _scrape(edge)
        return (
            after.get("stream_open") == before.get("stream_open")
            and after.get("stream_resets_total") - before.get("stream_resets_total") == 1
            and _requests(after, "GET", STREAM, "2xx") - _requests(before, "GET", STREAM, "2xx") == 1
        )

    await eventually(is_counted)


async def test_what_consumers_and_the_database_did_is_counted(edge: RunningEdge, somebody: Person) -> None:
    group = {"group": "transcript", "topic": "chat.commands.v1"}
    before = await _scrape(edge)
    async with edge.client(somebody) as client:
        assert (await client.post("/api/v1/sessions")).status_code == 201
    after = await _scrape(edge)
    for name, labels in (
        ("kafka_records_consumed_total", group),
        ("kafka_batch_seconds_count", {"group": "transcript"}),
        ("db_transaction_seconds_count", {"outcome": "committed"}),
        ("db_pool_wait_seconds_count", {}),
        ("kafka_publish_seconds_count", {}),
    ):
        assert after.get(name, **labels) > before.get(name, **labels), name
    for service in ("publish", "identity", "events", "chunks", "postgres"):
        assert after.get("service_health", service=service) == 1, service


async def test_a_dead_letter_is_counted_by_topic_step_and_reason(edge: RunningEdge, producer: LogProducer) -> None:
    labels = {"topic": "chat.commands.v1", "step": "transcript", "reason": "malformed_body"}
    before = await _scrape(edge)
    good = Envelope(body=CreateSession(session_id=new_id()), tenant_id=new_id(), user_id=new_id(), source="test")
    await all_acked([await producer.send_raw("chat.commands.v1", b"k", b'{"session_id": 3}', good.headers())])

    name = "kafka_dead_letters_total"

    async def is_counted() -> bool:
        return (await _scrape(edge)).get(name, **labels) > before.get(name, **labels)

    await eventually(is_counted)
    after = await _scrape(edge)
    assert after.get(name, **labels) - before.get(name, **labels) == 1
    assert after.total(name) - before.total(name) == 1, "and under no other reason"
