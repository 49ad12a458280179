"""The tenant's feed over real Kafka and PostgreSQL: commit order, cursors on any edge, filters, privacy, polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from producers.edge.cursors import encode_cursor
from producers.edge.feed import KIND
from producers.edge.reads import feed as reads_feed
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.chunks import StreamEnded
from schemas.envelope import Envelope
from schemas.events import CommandRejected, DocumentDeleted, SessionRenamed, UsageRecorded, UserState
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS, CHAT_EVENTS, IDENTITY_STATE, KNOWLEDGE_EVENTS, USAGE_EVENTS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord, Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from tests.integration.edge.world import Person, RunningEdge, Sent, events_of, person, running_edge, tell_key

SSE = {"accept": "text/event-stream"}


def renamed(who: Person, name: str, *, session_id: UUID | None = None, version: int = 1) -> Outgoing:
    """An event of one of `who`'s sessions; its name is how a test knows it again."""
    body = SessionRenamed(session_id=session_id or new_id(), session_version=version, name=name)
    return CHAT_EVENTS, Envelope(body=body, tenant_id=who.tenant_id, user_id=who.user_id, source="transcript")


def deleted(who: Person, document_id: UUID) -> Outgoing:
    body = DocumentDeleted(document_id=document_id, version=1)
    return KNOWLEDGE_EVENTS, Envelope(body=body, tenant_id=who.tenant_id, user_id=who.user_id, source="documents")


def used(who: Person, session_id: UUID) -> Outgoing:
    body = UsageRecorded(
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        session_id=session_id,
        completion_id=new_id(),
        attempt=1,
        model="fast",
        input_tokens=1,
        output_tokens=2,
        cost_usd=None,
        estimated=False,
    )
    return USAGE_EVENTS, Envelope(body=body, tenant_id=who.tenant_id, user_id=who.user_id, source="completions")


async def put(database: Database, *outgoing: Outgoing, publish: LogProducer | None = None) -> list[OutboxRecord]:
    """One transaction with these events, published after its commit as a worker does."""
    async with database.transaction() as work:
        records = await outbox.add(work, outgoing)
    if publish is not None:
        await publish.publish_records(records)
    return records


def names(items: Sequence[dict[str, Any]]) -> list[str]:
    return [item["data"].get("name", item["type"].split(".")[2]) for item in items]


async def page(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/events", params={k.rstrip("_"): v for k, v in params.items()})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def taken(events: AsyncIterator[Sent], n: int) -> list[Sent]:
    async with asyncio.timeout(15):
        return [await anext(events) for _ in range(n)]


@asynccontextmanager
async def following(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **params: Any) -> Any:
    async with client.stream("GET", "/api/v1/events", params=params, headers=SSE | (headers or {})) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events_of(response)


async def test_an_item_is_a_cloud_event(edge: RunningEdge, somebody: Person, database: Database) -> None:
    (_, envelope), = sent = [renamed(somebody, "one")]  # fmt: skip
    await put(database, *sent)
    async with edge.client(somebody) as client:
        found = await page(client, from_="beginning")
    assert found["items"] == [
        {
            "specversion": "1.0",
            "id": str(envelope.id),
            "type": "ragline.chat.session_renamed.v1",
            "source": "transcript",
            "subject": envelope.body.key(),
            "time": envelope.time.isoformat(),
            "datacontenttype": "application/json",
            "tenantid": str(somebody.tenant_id),
            "userid": str(somebody.user_id),
            "correlationid": str(envelope.id),
            "data": {"session_id": envelope.body.key(), "session_version": 1, "name": "one", "automatic": False},
        }
    ]


async def test_a_long_transaction_is_waited_for_and_not_skipped(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    """It began first and commits last: what others have committed meanwhile stands behind it for every reader."""
    async with edge.client(somebody) as client:
        start = (await page(client))["next_cursor"]
        async with database.transaction() as slow:
            await outbox.add(slow, [renamed(somebody, "slow 1")])
            await put(database, renamed(somebody, "quick 1"), publish=producer)
            during = await page(client, cursor=start)
            assert during["items"] == []
            waiting = asyncio.create_task(page(client, cursor=during["next_cursor"], wait=20))
            await put(database, renamed(somebody, "quick 2"), publish=producer)
            await outbox.add(slow, [renamed(somebody, "slow 2")])
            assert not waiting.done()
        found = await waiting
        assert names(found["items"]) == ["slow 1", "slow 2", "quick 1", "quick 2"]
        assert names((await page(client, cursor=start))["items"]) == names(found["items"])


async def test_nothing_is_skipped_while_many_write(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client, following(client) as events:

        async def write(writer: int) -> None:
            for n in range(15):
                async with database.transaction() as work:
                    first = await outbox.add(work, [renamed(somebody, f"{writer}.{n}.a")])
                    await asyncio.sleep(0.002 * ((writer * 7 + n * 3) % 5))
                    second = await outbox.add(work, [renamed(somebody, f"{writer}.{n}.b")])
                await producer.publish_records([*first, *second])

        reading = asyncio.create_task(taken(events, 8 * 15 * 2))
        await asyncio.gather(*(write(writer) for writer in range(8)))
        seen = [sent.data["data"]["name"] for sent in await reading]
        again = []
        cursor: dict[str, str] = {"from_": "beginning"}
        while True:
            got = await page(client, limit=17, **cursor)
            if not got["items"]:
                break
            again += names(got["items"])
            cursor = {"cursor": got["next_cursor"]}
    assert len(set(seen)) == len(seen) == 240
    assert seen == again
    for writer in range(8):
        mine = [name for name in seen if name.startswith(f"{writer}.")]
        assert mine == [f"{writer}.{n}.{half}" for n in range(15) for half in "ab"]


async def test_a_stream_is_woken_and_resumed_on_another_edge(
    edge: RunningEdge,
    servers: EmbeddedServers,
    somebody: Person,
    database: Database,
    producer: LogProducer,
    tmp_path: Path,
) -> None:
    async with edge.client(somebody) as client, following(client) as events:
        await put(database, renamed(somebody, "one"), publish=producer)
        await taken(events, 1)
        began = time.monotonic()
        await put(database, renamed(somebody, "two"), publish=producer)
        (two,) = await taken(events, 1)
        assert time.monotonic() - began < 1.5, "the tail wakes the stream, not the slow fallback"
        assert two.name == two.data["type"] == "ragline.chat.session_renamed.v1"
        assert two.id is not None
    await put(database, renamed(somebody, "three"), renamed(somebody, "four"))
    other = running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path / "other"))
    async with other as second, second.client(somebody) as client:
        async with following(client, {"last-event-id": two.id}, cursor="an older one") as events:
            three, four = await taken(events, 2)
            assert names([three.data, four.data]) == ["three", "four"]
            await put(database, renamed(somebody, "unpublished"))
            assert names([(await taken(events, 1))[0].data]) == ["unpublished"], "the fallback finds it"
        assert names((await page(client, cursor=three.id))["items"]) == ["four", "unpublished"]


async def test_a_stream_tells_where_it_is_before_anything_happens(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    """Cut before the first event, a client goes on from there and misses nothing."""
    async with edge.client(somebody) as client:
        async with client.stream("GET", "/api/v1/events", headers=SSE) as response:
            lines = response.aiter_lines()
            first, blank = await anext(lines), await anext(lines)
        assert (first[:4], blank) == ("id: ", "")
        await put(database, renamed(somebody, "missed"))
        assert names((await page(client, cursor=first[4:]))["items"]) == ["missed"]


async def test_filters(edge: RunningEdge, somebody: Person, database: Database) -> None:
    session, document = new_id(), new_id()
    await put(
        database,
        renamed(somebody, "this", session_id=session),
        renamed(somebody, "other"),
        deleted(somebody, document),
        deleted(somebody, new_id()),
        used(somebody, session),
        used(somebody, new_id()),
    )
    async with edge.client(somebody) as client:

        async def seen(**params: Any) -> list[str]:
            return names((await page(client, from_="beginning", **params))["items"])

        assert len(await seen()) == 6
        assert await seen(session_id=session) == ["this", "usage_recorded"]
        assert await seen(document_id=document) == ["document_deleted"]
        assert await seen(session_id=session, document_id=document) == ["this", "document_deleted", "usage_recorded"]
        assert await seen(types="ragline.chat.") == ["this", "other"]
        assert await seen(types="ragline.usage, ragline.knowledge.document_deleted.v1", session_id=session) == [
            "usage_recorded"
        ]
        refused = await client.get("/api/v1/events", params={"types": "ragline.chat,ragline.chatter"})
        assert (refused.status_code, refused.json()["field"]) == (422, "types")


async def test_what_does_not_match_is_passed_and_not_read_again(
    edge: RunningEdge, somebody: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_feed, "MAX_SCANNED", 10)
    document = new_id()
    await put(database, *(renamed(somebody, str(n)) for n in range(35)), deleted(somebody, document))
    async with edge.client(somebody) as client:
        first = await page(client, from_="beginning", types="ragline.knowledge")
        assert first["items"] == []
        found = await page(client, cursor=first["next_cursor"], types="ragline.knowledge", wait=5)
        assert names(found["items"]) == ["document_deleted"]
        async with following(client, None, **{"from": "beginning", "types": "ragline.knowledge"}) as events:
            assert names([(await taken(events, 1))[0].data]) == ["document_deleted"]


async def test_large_events_make_small_pages(
    edge: RunningEdge, somebody: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_feed, "MAX_PAGE_BYTES", 1_000)
    await put(database, *(renamed(somebody, str(n) * 600) for n in range(5)))
    async with edge.client(somebody) as client:
        found, sizes = await page(client, from_="beginning"), []
        while found["items"]:
            sizes.append(len(found["items"]))
            found = await page(client, cursor=found["next_cursor"])
    assert sizes == [2, 2, 1]


async def test_what_is_private_stays_private(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    colleague = person(somebody.tenant_id)
    admin = person(somebody.tenant_id, role="admin")
    operator = person(somebody.tenant_id, role="operator")
    stranger = person(role="admin")
    for one in (colleague, admin, operator, stranger):
        await tell_key(producer, one)
    rejected = CommandRejected(subject=str(new_id()), command_type="c", code="x", status=409, detail="d")
    ended = StreamEnded(completion_id=new_id(), message_id=new_id(), epoch=0, end=0, status="complete")
    state = UserState(user_id=colleague.user_id, tenant_id=somebody.tenant_id, email="e", role="user")
    inside: list[Outgoing] = [
        (topic, Envelope(body=body, tenant_id=somebody.tenant_id, user_id=somebody.user_id, source="s"))
        for topic, body in ((CHAT_CHUNKS, ended), (IDENTITY_STATE, state))
    ]
    refusal = Envelope(body=rejected, tenant_id=somebody.tenant_id, user_id=colleague.user_id, source="s")
    await put(
        database,
        renamed(somebody, "mine"),
        renamed(colleague, "colleague's"),
        deleted(colleague, new_id()),
        (KNOWLEDGE_EVENTS, refusal),
        used(colleague, new_id()),
        *inside,
    )
    seen = {}
    for who in (somebody, colleague, admin, operator, stranger):
        async with edge.client(who) as client:
            seen[who.key_id] = names((await page(client, from_="beginning"))["items"])
    assert seen[somebody.key_id] == ["mine", "document_deleted"]
    assert seen[colleague.key_id] == ["colleague's", "document_deleted", "rejected", "usage_recorded"]
    assert seen[admin.key_id] == ["mine", "colleague's", "document_deleted", "rejected", "usage_recorded"]
    assert seen[operator.key_id] == ["document_deleted"]
    assert seen[stranger.key_id] == []


async def test_a_cursor_that_is_none_of_this_feed(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    stranger = person()
    await tell_key(producer, stranger)
    async with edge.client(stranger) as client:
        foreign = (await page(client))["next_cursor"]
    now, tenant = int(time.time()), somebody.tenant_id
    refused = {
        "garbage": "garbage",
        "empty": "",
        "foreign": foreign,
        "other list": encode_cursor("sessions", datetime.now(UTC).isoformat(), new_id()),
        "future": encode_cursor(KIND, tenant, 2**60, 1, now),
        "negative": encode_cursor(KIND, tenant, -1, 1, now),
        "text": encode_cursor(KIND, tenant, "1", 1, now),
        "huge": encode_cursor(KIND, tenant, 2**63, 1, now),
        "short": encode_cursor(KIND, tenant, 1),
    }
    async with edge.client(somebody) as client:
        for what, cursor in refused.items():
            answer = await client.get("/api/v1/events", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), what
            if cursor:
                answer = await client.get("/api/v1/events", headers=SSE | {"last-event-id": cursor})
                assert (answer.status_code, answer.json()["field"]) == (400, "Last-Event-ID"), what
        expired = encode_cursor(KIND, tenant, 1, 1, now - 32 * 86_400)
        answer = await client.get("/api/v1/events", params={"cursor": expired})
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")


async def test_polling_waits_for_the_first_event(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        began = time.monotonic()
        nothing = await page(client, wait=0.3)
        assert nothing["items"] == []
        assert 0.3 <= time.monotonic() - began < 2
        waiting = asyncio.create_task(page(client, cursor=nothing["next_cursor"], wait=15))
        stranger = person()
        await put(database, renamed(stranger, "foreign"), publish=producer)
        await put(database, renamed(somebody, "mine"), publish=producer)
        assert names((await waiting)["items"]) == ["mine"]
        assert time.monotonic() - began < 8


async def test_a_stopping_edge_answers_who_polls(edge: RunningEdge, somebody: Person) -> None:
    async with edge.client(somebody) as client:
        start = await page(client)
        waiting = asyncio.create_task(page(client, cursor=start["next_cursor"], wait=20))
        while not edge.edge._running.streams._told:
            await asyncio.sleep(0.01)
        edge.edge.stop_streams()
        async with asyncio.timeout(3):
            assert (await waiting)["items"] == []


async def test_a_stream_outlives_a_database_that_does_not_answer(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge.client(somebody) as client, following(client) as events:
        await put(database, renamed(somebody, "before"), publish=producer)
        await taken(events, 1)
        feed_after, failed = reads_feed.feed_after, asyncio.Event()

        async def away(work: UnitOfWork, *_: Any, **__: Any) -> Any:
            failed.set()
            raise ConnectionError("gone")

        monkeypatch.setattr("producers.edge.feed.feed_after", away)
        await put(database, renamed(somebody, "during"), publish=producer)
        async with asyncio.timeout(5):
            await failed.wait()
        monkeypatch.setattr("producers.edge.feed.feed_after", feed_after)
        assert names([(await taken(events, 1))[0].data]) == ["during"]


async def test_reads_are_led_by_the_index(database: Database, somebody: Person) -> None:
    async with database.transaction() as work:
        await work.execute(
            "INSERT INTO outbox (id, xact_id, tenant_id, topic, key, type, headers, value)"
            " SELECT gen_random_uuid(), (n % 500 + 3)::text::xid8, ($1::uuid[])[n % 5 + 1], 'chat.events.v1', 'k',"
            " 'ragline.chat.session_renamed.v1', '{}', '{}' FROM generate_series(1, 50000) n",
            [somebody.tenant_id, *(new_id() for _ in range(4))],
        )
    async with database.transaction() as work:
        await work.execute("ANALYZE outbox")
    async with database.transaction(somebody.tenant_id) as work:
        names_ = [["chat.events.v1"], ["ragline.chat.session_renamed.v1"]]
        rest = [None, None, None, "knowledge.events.v1", "chat.events.v1", "usage.events.v1", 200, 1_000, 10**6]
        for xact_id in (0, 250, 10**6):
            lines = await work.fetch(
                f"EXPLAIN (ANALYZE, COSTS OFF) {reads_feed._SQL}", somebody.tenant_id, str(xact_id), 0, *names_, *rest
            )
            plan = "\n".join(line[0] for line in lines)
            assert plan.count(" outbox_feed") == 2, plan
            assert "Seq Scan" not in plan, plan
