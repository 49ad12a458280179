"""Sessions and messages follow from archive and log; what was damaged is found, exactly, and mended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from consumers.rebuild.conversations import ConversationsReport, rebuild_conversations
from consumers.relay.retention import delete_expired, expire_forever
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.commands import CancelCompletion
from schemas.ids import new_id
from schemas.topics import CHAT_EVENTS
from storage.archive import ARCHIVED, ArchivedRecord, archive_lock, archive_prefix, read_archive
from storage.blobs.local import LocalBlobStore
from storage.ports import StoredBlob
from storage.postgres import outbox
from storage.postgres.unit_of_work import Database
from tests.integration.completions.rig import TENANT, Rig, spec
from tests.integration.rebuild.walk import Walk
from tests.provider_server import ProviderServer

ROWS = "SELECT (SELECT json_agg(s ORDER BY id) FROM (SELECT {} FROM {} WHERE tenant_id = $1) s)::text"
SESSIONS = "id, tenant_id, user_id, name, profile_id, is_favorite, version, active_leaf_id, created_at, deleted_at"
MESSAGES = (
    "id, session_id, user_id, parent_id, sender, status, content, coalesce(partial_content, ''), error_code,"
    " error_message, citations, completion_id, model, usage, created_at"
)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


async def rebuild(
    database: Database, blobs: LocalBlobStore, tenant_id: UUID, *, execute: bool = False
) -> ConversationsReport:
    report = ConversationsReport()
    await rebuild_conversations(database, blobs, tenant_id, report, execute=execute)
    return report


async def stored(database: Database, tenant_id: UUID) -> list[str]:
    """Every column that a reader may see, of every row of the tenant."""
    async with database.transaction() as work:
        return [
            await work.fetchval(ROWS.format(SESSIONS, "sessions"), tenant_id),
            await work.fetchval(ROWS.format(MESSAGES, "messages"), tenant_id),
        ]


async def expire(database: Database, tenant_id: UUID, share: float) -> int:
    """The oldest `share` of the tenant's outbox rows become 33 days old; how many."""
    async with database.transaction() as work:
        return await work.execute(
            "UPDATE outbox SET created_at = now() - interval '33 days' WHERE id IN (SELECT id FROM outbox"
            " WHERE tenant_id = $1 ORDER BY xact_id, seq"
            " LIMIT (SELECT ceil(count(*) * $2::float8)::int FROM outbox WHERE tenant_id = $1))",
            tenant_id,
            share,
        )


async def archived(blobs: LocalBlobStore, tenant_id: UUID, topic: str) -> list[ArchivedRecord]:
    return [record async for records in read_archive(blobs, tenant_id, topic) for record in records]


async def kept(database: Database, tenant_id: UUID) -> list[tuple[str, UUID]]:
    """What the outbox holds of the topics that are archived, in commit order."""
    async with database.transaction() as work:
        rows = await work.fetch(
            "SELECT topic, id FROM outbox WHERE tenant_id = $1 AND topic = ANY($2::text[]) ORDER BY xact_id, seq",
            tenant_id,
            [topic.name for topic in ARCHIVED],
        )
    return [(row["topic"], row["id"]) for row in rows]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_history_that_is_half_archived_gives_the_rows_that_the_consumers_wrote(
    database: Database, blobs: LocalBlobStore, seed: int
) -> None:
    walk = Walk(database, seed=seed)
    await walk.walk(120)
    during = await rebuild(database, blobs, walk.tenant_id)
    assert (during.n_sessions, during.n_different, during.left_alone) == (5, 0, [])
    assert during.n_busy > 0
    await walk.finish()
    fresh = await rebuild(database, blobs, walk.tenant_id)
    assert (fresh.n_sessions, fresh.n_different, fresh.n_busy, fresh.left_alone) == (5, 0, 0, [])
    assert fresh.n_messages > 20
    for share in (0.5, 1.0):
        assert await expire(database, walk.tenant_id, share)
        assert await delete_expired(database, blobs)
        assert await archived(blobs, walk.tenant_id, CHAT_EVENTS.name)
        assert await rebuild(database, blobs, walk.tenant_id) == fresh
    assert await kept(database, walk.tenant_id) == []
    before = await stored(database, walk.tenant_id)
    async with database.transaction() as work:
        await work.execute("TRUNCATE sessions, messages")
    mended = await rebuild(database, blobs, walk.tenant_id, execute=True)
    assert (mended.n_mended, mended.left_alone) == (mended.n_different, [])
    assert await without_deletion(database, walk.tenant_id, before) == ([], [])
    again = await rebuild(database, blobs, walk.tenant_id, execute=True)
    assert (again.n_different, again.n_mended, again.n_messages) == (0, 0, fresh.n_messages)


async def without_deletion(database: Database, tenant_id: UUID, before: list[str]) -> tuple[list[object], list[object]]:
    """Rows that are not as before: of deleted sessions neither the messages nor the time can be."""
    after = await stored(database, tenant_id)
    gone = {row["id"] for row in json.loads(before[0]) if row["deleted_at"]}

    def living(text: str, column: str) -> list[object]:
        return [row for row in json.loads(text or "[]") if row[column] not in gone]

    return (
        [row for row in living(before[0], "id") if row not in living(after[0], "id")],
        [row for row in living(before[1], "session_id") if row not in living(after[1], "session_id")],
    )


async def test_exactly_the_damage_is_found_and_mended(database: Database, blobs: LocalBlobStore) -> None:
    walk = Walk(database, seed=7)
    await walk.walk(60)
    await walk.finish()
    before = await stored(database, walk.tenant_id)
    async with database.transaction() as work:
        session = await work.fetchval(
            "SELECT session_id FROM messages WHERE tenant_id = $1 AND session_id IN (SELECT id FROM sessions"
            " WHERE deleted_at IS NULL) GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
            walk.tenant_id,
        )
        ids = [
            row["id"]
            for row in await work.fetch(
                "SELECT id FROM messages WHERE session_id = $1 AND content <> '' ORDER BY id", session
            )
        ]
        lost, changed = ids[0], ids[-1]
        unheard = new_id()
        await work.execute("DELETE FROM messages WHERE id = $1", lost)
        await work.execute("UPDATE messages SET content = 'forged', citations = '[1]' WHERE id = $1", changed)
        await work.execute(
            "INSERT INTO messages (id, tenant_id, user_id, session_id, sender, status)"
            " SELECT $1, tenant_id, user_id, id, 'user', 'complete' FROM sessions WHERE id = $2",
            unheard,
            session,
        )
        await work.execute("UPDATE sessions SET active_leaf_id = $1 WHERE id = $2", unheard, session)
    damaged = await stored(database, walk.tenant_id)
    dry = await rebuild(database, blobs, walk.tenant_id)
    assert {(one.table, one.id, one.kind, one.columns) for one in dry.differences} == {
        ("sessions", session, "changed", ("active_leaf_id",)),
        ("messages", lost, "missing", ()),
        ("messages", changed, "changed", ("content", "citations")),
        ("messages", unheard, "extra", ()),
    }
    assert dry.n_mended == 0
    assert await stored(database, walk.tenant_id) == damaged
    assert (await rebuild(database, blobs, walk.tenant_id, execute=True)).n_mended == 4
    assert await stored(database, walk.tenant_id) == before
    async with database.transaction() as work:
        found = await work.fetch(
            "SELECT w.message_id, w.words = message_words(m.user_id, m.content, m.partial_content) AS are_true"
            " FROM message_words w LEFT JOIN messages m ON m.id = w.message_id"
        )
    assert [(row["message_id"], row["are_true"]) for row in found] == [(id_, True) for id_ in (lost, changed)]


async def test_what_has_no_events_is_told_and_left_as_it_is(database: Database, blobs: LocalBlobStore) -> None:
    """As in a database that is older than its archive."""
    walk = Walk(database, seed=8, n_sessions=2)
    await walk.walk(20)
    await walk.finish()
    before = await stored(database, walk.tenant_id)
    async with database.transaction() as work:
        first, second = await work.fetch("SELECT id, version FROM sessions WHERE tenant_id = $1", walk.tenant_id)
        await work.execute("DELETE FROM outbox WHERE key = $1 AND topic = $2", str(first["id"]), CHAT_EVENTS.name)
        await work.execute("DELETE FROM outbox WHERE key = $1 AND type LIKE '%session_created%'", str(second["id"]))
    found = await rebuild(database, blobs, walk.tenant_id, execute=True)
    assert {(one.session_id, one.reason) for one in found.left_alone} == {
        (first["id"], "there are no events of it"),
        (second["id"], "no event of version 1"),
    }
    assert (found.n_sessions, found.n_mended) == (2, 0)
    assert await stored(database, walk.tenant_id) == before


class DiedError(Exception):
    """The process ended here."""


class DiesAfterTheSegment(LocalBlobStore):
    """The process ends when the first segment stands and nothing was deleted yet."""

    async def put_bytes(self, key: str, data: bytes) -> StoredBlob:
        await super().put_bytes(key, data)
        raise DiedError


async def test_a_crash_between_segment_and_delete_loses_and_doubles_nothing(
    database: Database, blobs: LocalBlobStore, tmp_path: Path
) -> None:
    walk = Walk(database, seed=9)
    await walk.walk(60)
    await walk.finish()
    everything = await kept(database, walk.tenant_id)
    fresh = await rebuild(database, blobs, walk.tenant_id)
    await expire(database, walk.tenant_id, 0.4)
    with pytest.raises(DiedError):
        await delete_expired(database, DiesAfterTheSegment(tmp_path / "blobs"))
    written = await archived(blobs, walk.tenant_id, CHAT_EVENTS.name)
    assert written
    assert await kept(database, walk.tenant_id) == everything
    assert await rebuild(database, blobs, walk.tenant_id) == fresh
    await expire(database, walk.tenant_id, 0.7)
    await delete_expired(database, blobs)
    left = await kept(database, walk.tenant_id)
    assert 0 < len(left) < len(everything)
    for topic in ARCHIVED:
        ids = [record.id for record in await archived(blobs, walk.tenant_id, topic.name)]
        assert ids + [id_ for name, id_ in left if name == topic.name] == [
            id_ for name, id_ in everything if name == topic.name
        ]
    assert await rebuild(database, blobs, walk.tenant_id) == fresh
    assert await blobs.delete_prefix(archive_prefix(walk.tenant_id)) >= 2


async def test_nothing_moves_while_the_history_is_read(database: Database, blobs: LocalBlobStore) -> None:
    walk = Walk(database, seed=10, n_sessions=1)
    await walk.walk(5)
    await expire(database, walk.tenant_id, 1.0)
    async with database.own_connection() as reader:
        await reader.execute("SELECT pg_advisory_lock_shared($1)", archive_lock(walk.tenant_id))
        before = await kept(database, walk.tenant_id)
        assert await delete_expired(database, blobs) == 0
        assert await kept(database, walk.tenant_id) == before
    expiring = asyncio.create_task(expire_forever(database, blobs, cache_kept=timedelta(days=1), interval_s=0.02))
    async with asyncio.timeout(10):  # the server notices that the reader is gone
        while await kept(database, walk.tenant_id):
            await asyncio.sleep(0.02)
    assert not expiring.done()
    expiring.cancel()
    await asyncio.gather(expiring, return_exceptions=True)


@pytest.fixture
async def rig(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(servers.kafka_bootstrap, dsn, tmp_path) as ready:
        yield ready


async def test_answers_of_real_workers_follow_from_their_events(
    rig: Rig, database: Database, blobs: LocalBlobStore
) -> None:
    async with ProviderServer() as provider, rig.worker(spec(provider.url)):
        provider.set(n_tokens=400, tokens_per_s=100)
        cancelled_in = await rig.session()
        cancelled = await rig.ask(cancelled_in, "Cancelled")
        await rig.reader.has_text(cancelled.completion_id, 30)
        assert (await rebuild(database, blobs, TENANT, execute=True)).n_busy == 1
        await rig.send(CancelCompletion(session_id=cancelled_in, completion_id=cancelled.completion_id))
        await rig.reader.ended(cancelled.completion_id)
        provider.set(n_tokens=20, tokens_per_s=0)
        complete = await rig.ask(await rig.session(), "What is a trace?")
        await rig.reader.ended(complete.completion_id)
        provider.set(error_status=503, error_code="overloaded", retry_after="0")
        failed = await rig.ask(await rig.session(), "Never")
        await rig.reader.ended(failed.completion_id)
    before = await stored(database, TENANT)
    found = await rebuild(database, blobs, TENANT)
    assert (found.n_sessions, found.n_messages, found.n_different, found.left_alone) == (3, 6, 0, [])
    async with database.transaction() as work:
        await work.execute("DELETE FROM messages WHERE tenant_id = $1", TENANT)
    assert (await rebuild(database, blobs, TENANT, execute=True)).n_mended == 6
    assert await stored(database, TENANT) == before


async def test_what_was_not_published_holds_back_what_follows_it(database: Database, blobs: LocalBlobStore) -> None:
    walk = Walk(database, seed=11, n_sessions=2)
    await walk.walk(20)
    everything = await kept(database, walk.tenant_id)
    _, unpublished = everything[len(everything) // 2]
    await expire(database, walk.tenant_id, 1.0)
    async with database.transaction() as work:
        await work.execute("INSERT INTO outbox_unpublished (id) VALUES ($1)", unpublished)
    await delete_expired(database, blobs)
    assert await kept(database, walk.tenant_id) == everything[len(everything) // 2 :]
    async with database.transaction() as work:
        await outbox.mark_published(work, [unpublished])
    await delete_expired(database, blobs)
    ids = [record.id for topic in ARCHIVED for record in await archived(blobs, walk.tenant_id, topic.name)]
    assert sorted(ids) == sorted(id_ for _, id_ in everything)
