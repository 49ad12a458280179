"""Dead letters on a real broker: poison is kept, redriven once after the fix, and never lost on the way."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from producers.replay.dead_letters import DeadLetterDesk, Reasons, Wanted, place_of
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.dead_letters import DeadLetterView
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS, CHAT_COMMANDS, KNOWLEDGE_COMMANDS
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer, all_acked
from storage.log.tail import Records, Tail
from storage.postgres.dead_letter_actions import Place
from storage.postgres.unit_of_work import Database
from tests.groups import group_at_end
from tests.integration.edge.world import eventually, person, running_edge, tell_key
from tests.integration.log.test_batch_runner import Recorder, command, running

LATER = itertools.count()
"""Milliseconds, so that no two letters are of one age."""


@pytest.fixture
def tenant() -> UUID:
    """A tenant of this test's own, by which it knows its letters."""
    return new_id()


@pytest.fixture
def desk(servers: EmbeddedServers, database: Database, producer: LogProducer) -> DeadLetterDesk:
    return DeadLetterDesk(servers.kafka_bootstrap, database, producer)


@pytest.fixture
async def group(servers: EmbeddedServers) -> str:
    """A group of this test's own that begins at the end of what other tests have sent."""
    return await group_at_end(servers.kafka_bootstrap, CHAT_COMMANDS)


async def bury(
    producer: LogProducer,
    tenant: UUID,
    *,
    reason: str = "processing_failed",
    topic: str = CHAT_COMMANDS.name,
    error: str = "e",
) -> Envelope:
    """A dead letter as the runner leaves it."""
    dead = replace(command("dead"), tenant_id=tenant)
    now_ms = int(datetime.now(UTC).timestamp() * 1000) + next(LATER)
    told = {"reason": reason, "step": "s", "error": error, "time_ms": now_ms, "partition": 3, "offset": 7}
    headers = dead.headers() + [(f"dlq_{name}", str(value).encode()) for name, value in told.items()]
    future = await producer.send_raw(f"{topic}.dlq", dead.body.key().encode(), dead.body.encode(), headers)
    await all_acked([future])
    return dead


async def letters(desk: DeadLetterDesk, tenant: UUID, *, is_open: bool | None = None) -> list[DeadLetterView]:
    return list((await desk.browse(Wanted(tenant_id=tenant, is_open=is_open), limit=100)).letters)


async def sessions(database: Database, tenant: UUID) -> int:
    async with database.transaction() as work:
        n: int = await work.fetchval("SELECT count(*) FROM sessions WHERE tenant_id = $1", tenant)
        return n


async def test_poison_is_kept_and_takes_effect_once_after_the_fix(
    servers: EmbeddedServers, database: Database, producer: LogProducer, desk: DeadLetterDesk, tenant: UUID, group: str
) -> None:
    poison, good = (replace(command(name), tenant_id=tenant) for name in ("poison", "good"))
    broken = [True]

    def fails(one: Envelope) -> BaseException | None:
        return ValueError("a bug") if broken and one.id == poison.id else None

    async def n_letters(n: int) -> bool:
        return len(await letters(desk, tenant)) == n

    recorder = Recorder(fails, source=group)
    async with running(servers, database, producer, recorder.handle, group=group) as subscribers:
        runner = subscribers.runners[group]
        for one in (poison, good):
            await producer.publish(CHAT_COMMANDS, one, timeout_s=5)
        await eventually(lambda: n_letters(1))
        (letter,) = await letters(desk, tenant)
        assert (letter.id, letter.type, letter.reason) == (str(poison.id), poison.body.ce_type, "processing_failed")
        assert (letter.step, letter.tenant_id, letter.key) == (group, tenant, poison.body.key())
        assert "a bug" in letter.error

        # Redriven before the fix, it fails again: a new letter, beside the old one.
        assert await redriven(desk, letter) == [True]
        await eventually(lambda: n_letters(2))
        (again,) = await letters(desk, tenant, is_open=True)
        assert again.id == letter.id
        assert again.offset > letter.offset
        whole = await desk.read(place_of(again))
        assert [name for name, _ in whole.headers].count("dlq_reason") == 1
        assert whole.value == poison.body.encode()

        # After the fix it takes effect; asked again, nothing is even published.
        broken.clear()
        await eventually(lambda: is_there(sessions(database, tenant), 1))
        n_processed = runner.n_processed
        assert await redriven(desk, again) == [True]
        assert await redriven(desk, again) == [False]
        await eventually(lambda: is_there(sessions(database, tenant), 2))
        assert runner.n_processed == n_processed + 1

        # The audit row is lost, as if its writer had died after the publish: the record comes again, its effect not.
        async with database.transaction() as work:
            await work.execute("DELETE FROM dead_letter_actions")
        assert await redriven(desk, again) == [True]
        await eventually(lambda: is_there(value(runner.n_processed), n_processed + 2))
    async with database.transaction() as work:
        made = await work.fetchval(
            "SELECT count(*) FROM outbox WHERE causation_id = $1 AND type LIKE '%session_created%'", poison.id
        )
    assert (made, await sessions(database, tenant)) == (1, 2)
    assert await n_letters(2)


async def redriven(desk: DeadLetterDesk, *chosen: DeadLetterView) -> list[bool]:
    """Redrives; whether each was new."""
    done = [one async for one in desk.redrive([place_of(letter) for letter in chosen], by="test")]
    assert all(one.letter.action is not None and one.letter.action.action == "redriven" for one in done)
    return [one.is_new for one in done]


async def value(number: int) -> int:
    return number


async def is_there(what: Awaitable[int], wanted: int) -> bool:
    return await what == wanted


async def test_two_redrives_at_once_publish_once(
    servers: EmbeddedServers, producer: LogProducer, desk: DeadLetterDesk, tenant: UUID
) -> None:
    dead = await bury(producer, tenant)
    (letter,) = await letters(desk, tenant)
    async with published(servers) as ids:
        news = await asyncio.gather(*(redriven(desk, letter) for _ in range(5)))
        assert sorted(news) == [[False]] * 4 + [[True]]
        after = await bury(producer, tenant)
        (other,) = await letters(desk, tenant, is_open=True)
        assert await redriven(desk, other) == [True]
        await eventually(lambda: is_there(value(ids.count(str(after.id))), 1))
        assert ids.count(str(dead.id)) == 1


async def test_a_redriven_record_is_the_record_as_it_was(
    servers: EmbeddedServers, producer: LogProducer, desk: DeadLetterDesk, tenant: UUID
) -> None:
    """Even one that cannot be read: bytes are bytes."""
    headers = [("ce_type", b"caf\xe9"), ("ce_tenantid", str(tenant).encode()), ("ce_tenantid", str(tenant).encode())]
    dead = [*headers, ("dlq_reason", b"bad_header"), ("dlq_time_ms", b"9" * 15), ("dlq_offset", b"x")]
    await all_acked([await producer.send_raw(f"{CHAT_COMMANDS.name}.dlq", b"\xff", b"\x00not json", dead)])
    (letter,) = await letters(desk, tenant)
    assert (letter.type, letter.id, letter.key, letter.original_offset) == ("caf\\xe9", None, "\\xff", None)
    whole = await desk.read(place_of(letter))
    assert ("ce_type", "caf\\xe9") in whole.headers
    records: list[ConsumerRecord] = []
    tail = Tail(servers.kafka_bootstrap, [CHAT_COMMANDS], lambda _, found: records.extend(found), client_id="raw")
    await tail.start()
    try:
        assert await redriven(desk, letter) == [True]
        await eventually(lambda: is_there(value(len(records)), 1))
    finally:
        await tail.stop()
    (record,) = records
    assert (record.key, record.value, list(record.headers)) == (b"\xff", b"\x00not json", headers)


async def test_filters_order_and_counts(producer: LogProducer, desk: DeadLetterDesk, tenant: UUID) -> None:
    first = await bury(producer, tenant, reason="malformed_body")
    second = await bury(producer, tenant)
    third = await bury(producer, tenant, topic=KNOWLEDGE_COMMANDS.name)
    ids = [str(one.id) for one in (first, second, third)]
    mine = Wanted(tenant_id=tenant)

    async def found(limit: int = 100, **changes: Any) -> list[str | None]:
        return [letter.id for letter in (await desk.browse(replace(mine, **changes), limit=limit)).letters]

    assert await found() == ids[::-1]
    assert [one.id for one in (await desk.browse(mine, limit=2, oldest_first=True)).letters] == ids[:2]
    assert await found(2) == ids[:0:-1]
    assert await found(reason="malformed_body") == ids[:1]
    assert await found(topic=KNOWLEDGE_COMMANDS.name) == ids[2:]
    assert await found(topic=f"{KNOWLEDGE_COMMANDS.name}.dlq") == ids[2:]
    assert await found(id=ids[1]) == ids[1:2]
    assert await found(type="ragline.chat.") == ids[::-1]
    assert await found(type="ragline.knowledge") == []
    letters_ = (await desk.browse(mine, limit=3)).letters
    assert await found(since=letters_[0].at) == [one.id for one in letters_ if one.at >= letters_[0].at]
    assert await found(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert await found(since=datetime(1, 1, 1, tzinfo=UTC)) == [one.id for one in letters_]
    assert (await desk.browse(mine, limit=1)).n_matched == 3

    async for one in desk.discard(letters_[:1], by="test"):
        assert one.is_new
    assert await found(is_open=True) == ids[1::-1]
    counts = await desk.stats(mine)
    kind = first.body.ce_type
    assert {why: (n.n_letters, n.n_open) for why, n in counts.items()} == {
        Reasons(CHAT_COMMANDS.name, kind, "malformed_body"): (1, 1),
        Reasons(CHAT_COMMANDS.name, kind, "processing_failed"): (1, 1),
        Reasons(KNOWLEDGE_COMMANDS.name, kind, "processing_failed"): (1, 0),
    }
    with pytest.raises(Reject, match="has no dead letters"):
        await desk.browse(Wanted(topic=CHAT_CHUNKS.name), limit=1)
    for nowhere in (Place(CHAT_COMMANDS.name, 0, 10**9), Place(CHAT_COMMANDS.name, 99, 0)):
        with pytest.raises(Reject, match="there is no dead letter at"):
            await desk.read(nowhere)


@asynccontextmanager
async def published(servers: EmbeddedServers) -> AsyncIterator[list[str]]:
    """The ids of the chat commands that are published meanwhile."""
    ids: list[str] = []

    def take(_: TopicPartition, records: Records) -> None:
        ids.extend(dict(record.headers)["ce_id"].decode() for record in records)

    tail = Tail(servers.kafka_bootstrap, [CHAT_COMMANDS], take, client_id="test-commands")
    await tail.start()
    try:
        yield ids
    finally:
        await tail.stop()


async def test_over_http(
    servers: EmbeddedServers, database: Database, producer: LogProducer, tenant: UUID, tmp_path: Path
) -> None:
    admin, user = person(tenant, role="admin"), person(tenant)
    stranger, operator = person(role="admin"), person(role="operator")
    for who in (admin, user, stranger, operator):
        await tell_key(producer, who)
    dead = [await bury(producer, tenant) for _ in range(3)]
    url = "/api/v1/admin/dead-letters"
    async with running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path)) as edge:
        async with edge.client(user) as client:
            for answer in (await client.get(url), await client.post(f"{url}/redrive", json={})):
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        async with edge.client(admin) as client:
            seen: list[dict[str, Any]] = []
            cursor: dict[str, str] = {}
            while len(seen) < 3:
                found = (await client.get(url, params={"limit": 2, **cursor})).json()
                seen += found["items"]
                cursor = {"cursor": found["next_cursor"]}
            assert found["next_cursor"] is None
            assert [letter["id"] for letter in seen] == [str(one.id) for one in reversed(dead)]
            nothing = await client.get(url, params={"reason": "other"})
            assert nothing.json() == {"items": [], "next_cursor": None}
            for wrong, status in (({"cursor": "x"}, 400), ({"topic": "chat.chunks.v1"}, 404), ({"since": "x"}, 422)):
                assert (await client.get(url, params=wrong)).status_code == status
        body = {name: seen[0][name] for name in ("topic", "partition", "offset")}
        async with edge.client(stranger) as client:
            assert (await client.get(url)).json()["items"] == []
            answer = await client.post(f"{url}/redrive", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "dead_letter_not_found")
        async with edge.client(operator) as client:
            of_all = (await client.get(url, params={"id": seen[1]["id"]})).json()["items"]
            assert [letter["tenant_id"] for letter in of_all] == [str(tenant)]
        async with edge.client(admin) as client, published(servers) as ids:
            first = (await client.post(f"{url}/redrive", json=body)).json()
            second = (await client.post(f"{url}/redrive", json=body)).json()
            assert first["letter"]["action"]["by"] == f"user:{admin.user_id}"
            assert (first["is_new"], second) == (True, {**first, "is_new": False})
            assert (await client.get(url, params={"id": seen[0]["id"]})).json()["items"] == [first["letter"]]
            await eventually(lambda: is_there(value(ids.count(seen[0]["id"])), 1))
            assert (await client.post(f"{url}/redrive", json=body | {"x": 1})).status_code == 422
