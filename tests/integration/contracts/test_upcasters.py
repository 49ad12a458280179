"""A record of an older version takes effect as the newer one: from the log, out of the dead letters, from the archive.

The newer versions are made here. `CreateSessionV2` needs a colour and a name in capitals; the golden record of v1 has
neither. `SessionRenamedV2` says the name in capitals too, so that a rebuild shows which version it has read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest
from pydantic import Field

from consumers.rebuild import conversations
from consumers.rebuild.conversations import ConversationsReport, rebuild_conversations
from consumers.relay.retention import delete_expired
from consumers.transcript.subscriber import transcript
from producers.replay.dead_letters import DeadLetterDesk, Wanted, place_of
from ragline.dev_stack.embedded import EmbeddedServers
from schemas.commands import CreateSession, RenameSession
from schemas.envelope import Envelope, decode, decode_body
from schemas.errors import DeadLetter
from schemas.events import SessionCreated, SessionRenamed
from schemas.ids import new_id
from schemas.records import Body
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS, Topic
from schemas.upcasters import Upcaster
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer, all_acked
from storage.postgres import outbox
from storage.postgres.unit_of_work import Database
from tests.golden import golden
from tests.integration.contracts.test_every_consumer import consuming, outcomes
from tests.integration.edge.world import eventually


class CreateSessionV2(CreateSession):
    """Opens a chat of a colour, whose name is in capitals."""

    ce_type: ClassVar[str] = "ragline.chat.create_session.v2"
    name: str = Field(pattern="^[^a-z]+$")
    color: str


class SessionRenamedV2(SessionRenamed):
    """A chat got a name, in capitals."""

    ce_type: ClassVar[str] = "ragline.chat.session_renamed.v2"


class SessionRenamedV3(SessionRenamedV2):
    """A chat got a name and a mark."""

    ce_type: ClassVar[str] = "ragline.chat.session_renamed.v3"
    mark: str


def _create_v2(old: CreateSession) -> CreateSessionV2:
    return CreateSessionV2(session_id=old.session_id, name=(old.name or "chat").upper(), color="none")


def _renamed_v2(old: SessionRenamed) -> SessionRenamedV2:
    return SessionRenamedV2(**dict(old) | {"name": old.name.upper()})


def _renamed_v3(old: SessionRenamedV2) -> SessionRenamedV3:
    return SessionRenamedV3(**dict(old), mark="!")


def _newer(topic: Topic, *steps: Upcaster[Body, Body]) -> Topic:
    """The topic as it is once the last release that wrote the old versions is gone."""
    old = {step.old for step in steps}
    kept = [record for record in topic.records if record not in old]
    return replace(topic, records=(*kept, steps[-1].new), upcasters=steps)


COMMANDS = _newer(CHAT_COMMANDS, Upcaster(CreateSession, CreateSessionV2, _create_v2))  # type: ignore[arg-type]
EVENTS = _newer(CHAT_EVENTS, Upcaster(SessionRenamed, SessionRenamedV2, _renamed_v2))  # type: ignore[arg-type]
[OLD] = [one for one in golden() if one.kind == CreateSession.ce_type]


def test_an_old_record_is_read_as_the_newest_version_step_by_step() -> None:
    topic = _newer(
        CHAT_EVENTS,
        Upcaster(SessionRenamed, SessionRenamedV2, _renamed_v2),  # type: ignore[arg-type]
        Upcaster(SessionRenamedV2, SessionRenamedV3, _renamed_v3),  # type: ignore[arg-type]
    )
    [old] = [one for one in golden() if one.kind == SessionRenamed.ce_type]
    body = decode(topic, old.raw_headers, old.raw_value).body
    assert isinstance(body, SessionRenamedV3)
    assert (body.name, body.mark) == (old.value["name"].upper(), "!")
    assert decode_body(topic, SessionRenamedV3.ce_type, body.encode()) == body
    kinds = {SessionRenamed.ce_type, SessionRenamedV2.ce_type, SessionRenamedV3.ce_type}
    assert topic.read_as(SessionRenamedV3) == kinds
    assert topic.read_as(SessionCreated) == {SessionCreated.ce_type}
    assert SessionRenamed.ce_type not in topic.by_type, "nobody writes it any more"
    with pytest.raises(DeadLetter, match="unknown_type"):
        decode_body(CHAT_EVENTS, SessionRenamedV3.ce_type, body.encode())
    with pytest.raises(DeadLetter, match=r"malformed_body.*session_renamed\.v1"):
        decode_body(topic, SessionRenamed.ce_type, b'{"name": 5}')


async def test_old_commands_take_effect_from_the_log_and_out_of_the_dead_letters(
    servers: EmbeddedServers, database: Database, producer: LogProducer
) -> None:
    """The golden v1 is read by the transcript of a release that knows v2 only; a dead one is redriven to it."""
    tenant = new_id()
    headers = [(k, str(tenant).encode() if k == "ce_tenantid" else v) for k, v in OLD.raw_headers]
    body = CreateSession(session_id=new_id(), name="late")
    dead = Envelope(body=body, tenant_id=tenant, user_id=tenant, source="test")
    desk = DeadLetterDesk(servers.kafka_bootstrap, database, producer)
    reasons = [("dlq_reason", b"unknown_type"), ("dlq_step", b"transcript")]
    key = body.key().encode()
    await all_acked(
        [await producer.send_raw(CHAT_COMMANDS.dead_letter_topic, key, body.encode(), [*dead.headers(), *reasons])]
    )
    of_a_newer_release = replace(transcript(), topic=COMMANDS)
    async with (
        outcomes(servers, CHAT_EVENTS) as told,
        consuming(servers, database, producer, [of_a_newer_release]),
    ):
        key = OLD.headers["ce_subject"].encode()
        await all_acked([await producer.send_raw(CHAT_COMMANDS.name, key, OLD.raw_value, headers)])
        [letter] = (await desk.browse(Wanted(tenant_id=tenant), limit=10)).letters
        assert [done.is_new async for done in desk.redrive([place_of(letter)], by="test")] == [True]

        async def both_told() -> bool:
            return {OLD.headers["ce_id"], str(dead.id)} <= told.keys()

        await eventually(both_told, within_s=30)
    async with database.transaction() as work:
        names = await work.fetch("SELECT id, name FROM sessions WHERE tenant_id = $1", tenant)
    assert {row["id"]: row["name"] for row in names} == {
        UUID(OLD.value["session_id"]): OLD.value["name"].upper(),
        body.session_id: "LATE",
    }


async def test_a_rebuild_reads_old_events_from_the_archive(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, session, blobs = new_id(), new_id(), LocalBlobStore(tmp_path)
    handle = transcript().handle
    assert handle is not None
    for body in (CreateSession(session_id=session), RenameSession(session_id=session, name="plans")):
        command = Envelope(body=body, tenant_id=tenant, user_id=tenant, source="test")
        async with database.transaction() as work:
            records = await outbox.add(work, await handle(work, [command]))
            await outbox.mark_published(work, [record.id for record in records])
    async with database.transaction() as work:
        await work.execute("UPDATE outbox SET created_at = now() - interval '33 days' WHERE tenant_id = $1", tenant)
    await delete_expired(database, blobs)

    async def rebuilt(*, execute: bool) -> ConversationsReport:
        report = ConversationsReport()
        await rebuild_conversations(database, blobs, tenant, report, execute=execute)
        return report

    before = await rebuilt(execute=False)
    assert (before.n_sessions, before.n_different, before.n_left_alone) == (1, 0, 0)
    monkeypatch.setattr(conversations, "CHAT_EVENTS", EVENTS)
    monkeypatch.setattr(conversations, "SESSION_EVENTS", [*EVENTS.kept])
    after = await rebuilt(execute=True)
    assert (after.n_different, after.n_mended, after.n_left_alone) == (1, 1, 0)
    async with database.transaction() as work:
        assert await work.fetchval("SELECT name FROM sessions WHERE id = $1", session) == "PLANS"
