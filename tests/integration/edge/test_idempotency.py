"""A command takes effect once, however often and by whichever edge it is sent; its senders get one answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiokafka import TopicPartition

from producers.edge.partitions import partition_of
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.commands import CreateSession, PostMessage, RenameSession
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS, CHAT_COMMANDS, CHAT_EVENTS, Topic
from storage.log.producer import LogProducer
from storage.log.tail import read_now
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import blobs_in
from tests.integration.edge.test_messages import end_in_postgres, new_session, post
from tests.integration.edge.test_streams import all_of, asked
from tests.integration.edge.world import Person, RunningEdge, events_of, eventually, running_edge, shown

pytestmark = pytest.mark.usefixtures("consumers")

Send = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]
"""Sends one request under a key; each call the same body."""

ELSEWHERE = {"/api/v1/admin/dead-letters/redrive": "replay/test_dead_letters.py: a letter's place is its key"}
READS = {"/api/v1/search"}


@pytest.fixture
async def two(
    edge: RunningEdge,
    servers: EmbeddedServers,
    database: Database,
    producer: LogProducer,
    somebody: Person,
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two edges over one blob store."""
    async with (
        running_edge(servers.kafka_bootstrap, database, producer, edge.blobs) as other,
        edge.client(somebody) as here,
        other.client(somebody) as there,
    ):
        yield [here, there]


async def same(clients: list[httpx.AsyncClient], send: Send, n: int = 4) -> httpx.Response:
    """The one answer to `n` requests at once over all edges, and to one more that comes later."""
    key = str(new_id())
    answers = await asyncio.gather(*(send(clients[i % len(clients)], key) for i in range(n)))
    answers.append(await send(clients[0], key))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}, answers[0].text
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1, [answer.text for answer in answers]
    return answers[0]


def to(path: str, **body: Any) -> Send:
    """A POST of JSON."""
    return lambda client, key: client.post(path, json=body or None, headers={"idempotency-key": key})


def file(data: bytes, path: str = "/api/v1/documents") -> Send:
    """A POST of a form with a file."""
    sent = {"file": ("a.pdf", data, "application/pdf")}
    return lambda client, key: client.post(path, files=sent, headers={"idempotency-key": key})


async def test_every_post_that_writes_takes_effect_once(
    two: list[httpx.AsyncClient], database: Database, tmp_path: Path
) -> None:
    client = two[0]
    session_id = (await same(two, to("/api/v1/sessions", name="one"))).json()["id"]
    messages = f"/api/v1/sessions/{session_id}/messages"
    posted = (await same(two, to(messages, content="q"))).json()
    cancel = f"/api/v1/completions/{posted['completion']['id']}/cancel"
    assert (await same(two, to(cancel))).json()["status"] == "cancelled"
    resumed = (await same(two, to(f"/api/v1/sessions/{session_id}/resume"))).json()["completion"]
    await end_in_postgres(database, resumed["id"], "complete", "a")
    regenerate = f"/api/v1/messages/{posted['completion']['message_id']}/regenerate"
    again = (await same(two, to(regenerate, model="fast"))).json()["completion"]
    document = (await same(two, file(b"%PDF 1"))).json()
    versions = f"/api/v1/documents/{document['id']}/versions"
    assert (await same(two, file(b"%PDF 2", versions))).json()["version"] == 2
    assert (await same(two, to(versions, restore=1))).json()["version"] == 1
    assert [item["id"] for item in (await client.get("/api/v1/sessions")).json()["items"]] == [session_id]
    assert [item["id"] for item in (await client.get("/api/v1/documents")).json()["items"]] == [document["id"]]
    listed = (await client.get(messages)).json()["items"]
    assert [item["completion_id"] for item in listed] == [None, again["id"]]
    async with database.transaction() as work:
        completions = await work.fetch("SELECT id FROM completions ORDER BY queue_no")
        told = await work.fetch("SELECT type, count(*) AS n FROM outbox GROUP BY type")
    assert [str(row["id"]) for row in completions] == [posted["completion"]["id"], resumed["id"], again["id"]]
    assert {row["type"].split(".")[2]: row["n"] for row in told} == {
        "session_created": 1,
        "message_posted": 1,
        "completion_requested": 3,
        "completion_cancelled": 1,
        "stream_ended": 1,
        "document_uploaded": 2,
        "restore_requested": 1,
    }

    async def two_blobs() -> bool:
        return len(blobs_in(tmp_path / "blobs")) == 2

    await eventually(two_blobs)
    described = (await client.get("/openapi.json")).json()["paths"]
    writes = {path for path, methods in described.items() if "post" in methods} - READS - ELSEWHERE.keys()
    assert writes == {
        "/api/v1/sessions",
        "/api/v1/sessions/{session_id}/messages",
        "/api/v1/sessions/{session_id}/resume",
        "/api/v1/messages/{message_id}/regenerate",
        "/api/v1/completions/{completion_id}/cancel",
        "/api/v1/documents",
        "/api/v1/documents/{document_id}/versions",
    }, "a POST that writes is repeated by clients: show above that it takes effect once"


async def test_two_bodies_that_race_under_one_key(two: list[httpx.AsyncClient]) -> None:
    session_id = await new_session(two[0])
    messages = f"/api/v1/sessions/{session_id}/messages"
    races: list[tuple[Send, Send]] = [
        (to("/api/v1/sessions", name="a"), to("/api/v1/sessions", name="b")),
        (to(messages, content="a"), to(messages, content="b")),
        (file(b"%PDF a"), file(b"%PDF b")),
    ]
    for bodies in races:
        key = str(new_id())
        answers = await asyncio.gather(*(bodies[i % 2](two[i // 2 % 2], key) for i in range(8)))
        sides = [{(answer.status_code, answer.text) for answer in answers[i::2]} for i in range(2)]
        won, lost = sorted(sides, key=lambda side: min(status for status, _ in side))
        assert len(won) == 1, "all that sent the first body have its answer"
        assert {status for status, _ in won} <= {201, 202}
        assert {status for status, _ in lost} == {422}
        assert all("idempotency_key_reused" in text for _, text in lost)
    assert len((await two[0].get("/api/v1/sessions")).json()["items"]) == 2
    assert len((await two[0].get(messages)).json()["items"]) == 2
    assert len((await two[0].get("/api/v1/documents")).json()["items"]) == 1


async def test_a_repetition_may_stream_what_the_first_request_asked(
    two: list[httpx.AsyncClient], producer: LogProducer, somebody: Person
) -> None:
    here, there = two
    url = f"/api/v1/sessions/{await new_session(here)}/messages"
    headers = {"idempotency-key": "k"}
    first = (await here.post(url, json={"content": "q"}, headers=headers)).json()["completion"]
    streaming = headers | {"accept": "text/event-stream"}
    async with there.stream("POST", url, json={"content": "q"}, headers=streaming) as response:
        assert response.headers["x-completion-id"] == first["id"]
        stream = events_of(response)
        assert (await anext(stream)).data["id"] == first["id"]
    again = await here.post(url, json={"content": "q"}, headers=headers)
    assert again.json()["completion"] == first
    assert len((await here.get(url)).json()["items"]) == 2


async def resent(servers: EmbeddedServers, producer: LogProducer, topic: Topic, key: UUID) -> int:
    """Everything that stands on the topic under a key is published again, twice, the newest first; how much."""
    partition = TopicPartition(topic.name, partition_of(topic, str(key).encode()))
    records = [
        record
        async for record in read_now(servers.kafka_bootstrap, {partition: None})
        if record.key == str(key).encode()
    ]
    for record in [*reversed(records), *reversed(records)]:
        await (await producer.send_raw(topic.name, record.key, record.value, list(record.headers)))
    return len(records)


async def test_events_and_chunks_that_come_again_in_any_order_change_nothing(
    edge: RunningEdge, servers: EmbeddedServers, producer: LogProducer, somebody: Person
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        session_id = UUID((await client.get("/api/v1/sessions")).json()["items"][0]["id"])
        messages = f"/api/v1/sessions/{session_id}/messages"
        live = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        for word in ("one ", "two ", "three "):
            await writer.write(word)
        assert await resent(servers, producer, CHAT_EVENTS, session_id) >= 3
        assert await resent(servers, producer, CHAT_CHUNKS, writer.id) == 4
        later = asyncio.create_task(all_of(client, writer.id))
        assert (await post(client, str(session_id), "next", headers={"idempotency-key": "n"})).status_code == 202
        await writer.write("four")
        await writer.finish()
        assert await resent(servers, producer, CHAT_CHUNKS, writer.id) == 14
        for events in (await live, await later, await all_of(client, writer.id)):
            assert shown(events) == "one two three four"
            ids = [event.id for event in events if event.id]
            assert ids == sorted(set(ids))
        assert [item["content"] for item in (await client.get(messages)).json()["items"][::2]] == ["q", "next"]


async def test_commands_that_come_again_or_too_early_take_effect_once(
    edge: RunningEdge, producer: LogProducer, somebody: Person, database: Database
) -> None:
    """Any prefix of what was sent is sent again at any time; what came too early stays refused."""
    who, session_id = somebody, new_id()

    def command(body: CreateSession | PostMessage | RenameSession) -> Envelope:
        return Envelope(body=body, tenant_id=who.tenant_id, user_id=who.user_id, source="test")

    def message(content: str) -> Envelope:
        ids = {name: new_id() for name in ("message_id", "ai_message_id", "completion_id")}
        return command(PostMessage(session_id=session_id, content=content, **ids))

    early = message("too early")
    sent = [early, command(CreateSession(session_id=session_id, name="s"))]
    sent += [message("0"), command(RenameSession(session_id=session_id, name="t")), message("1"), message("2")]
    rng = random.Random(4)
    log = [one for n in range(1, len(sent) + 1) for one in (sent[n - 1], *rng.sample(sent[:n], rng.randint(0, n)))]
    log += [*reversed(sent), early]
    for one in log:
        await producer.send(CHAT_COMMANDS, one)
    async with edge.client(somebody) as client:
        last = await post(client, str(session_id), "last")
        assert last.status_code == 202
        items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
        assert [item["content"] for item in items[::2]] == ["0", "1", "2", "last"]
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["name"] == "t"
    async with database.transaction() as work:
        told = Counter(row["causation_id"] for row in await work.fetch("SELECT causation_id FROM outbox"))
        refused = await work.fetchval("SELECT type FROM outbox WHERE causation_id = $1", early.id)
    assert [told[one.id] for one in sent] == [1, 1, 2, 1, 2, 2]
    assert refused == "ragline.command.rejected.v1"
