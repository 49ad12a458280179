"""Two owners of one partition at once: one was too slow for the group, and works on what another has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.commands import CreateSession
from schemas.envelope import Envelope
from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS
from storage.log.batch_runner import BatchRunner, Subscription
from storage.log.dead_letters import DeadLetters
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from tests.integration.log.test_batch_runner import Events, Recorder, command, events, group, send

__all__ = ["events", "group"]

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


class Owner:
    """One worker's runner. `held`: it stands still inside its transaction, after the inbox, until told to go on."""

    def __init__(self, servers: EmbeddedServers, dsn: str, producer: LogProducer, group: str, *, held: bool) -> None:
        self.database = Database(dsn)
        self.recorder = Recorder(source=group)
        self.has_begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        if not held:
            self.may_go_on.set()
        self.errors: list[BaseException] = []
        self._publisher = OutboxPublisher(self.database, producer)
        self._runner = BatchRunner(
            Subscription(CHAT_COMMANDS, group, self._handle, rejects_to=CHAT_EVENTS),
            database=self.database,
            publisher=self._publisher,
            dead_letters=DeadLetters(producer, CHAT_COMMANDS, step=group),
        )
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers.kafka_bootstrap,
            group_id=group,
            enable_auto_commit=False,
            session_timeout_ms=1000,
            heartbeat_interval_ms=200,
            rebalance_timeout_ms=1000,
        )

    async def _handle(self, work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
        self.has_begun.set()
        await self.may_go_on.wait()
        return await self.recorder.handle(work, commands)

    async def start(self) -> None:
        self._publisher.start()
        self._consumer.subscribe([CHAT_COMMANDS.name], listener=self._runner)
        await self._consumer.start()
        self._runner.start(self._consumer, self.errors.append)

    async def stop(self) -> None:
        self.may_go_on.set()
        await self._runner.stop()
        await self._consumer.stop()
        await self._publisher.stop()
        await self.database.close()
        assert self.errors == []


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["the-first-commits", "the-first-is-cut-off"])
async def test_what_two_owners_work_on_at_once_takes_effect_once(
    servers: EmbeddedServers,
    dsn: str,
    database: Database,
    producer: LogProducer,
    events: Events,
    group: str,
    *,
    is_cut_off: bool,
) -> None:
    slow, quick = (Owner(servers, dsn, producer, group, held=held) for held in (True, False))
    commands = [command(str(n)) for n in range(60)]
    await slow.start()
    await send(producer, *commands)
    await slow.has_begun.wait()
    await quick.start()  # the group waits a second for the first owner, and goes on without it

    async def wait_for(sql: str, n: int) -> None:
        async with asyncio.timeout(30):
            while True:
                async with database.transaction() as work:
                    if await work.fetchval(sql) >= n:
                        return
                await asyncio.sleep(0.02)

    await wait_for(WAITING, 1)
    assert not quick.recorder.batches, "both have the same commands, and one waits for the other's inbox"
    if is_cut_off:
        async with database.transaction() as work:
            await work.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction' AND datname = current_database()"
            )
    slow.may_go_on.set()
    ids = [one.id for one in commands]
    await events.until(lambda: all(one in events.by_cause for one in ids), timeout_s=40)
    await send(producer, last := command("last"))
    await events.until(lambda: last.id in events.by_cause, timeout_s=40)
    for owner in (slow, quick):
        await owner.stop()
    for one in ids:
        assert len({envelope.id for envelope in events.by_cause[one]}) == 1, "told once, or twice the same"
    sessions = [one.body.session_id for one in commands if isinstance(one.body, CreateSession)]
    async with database.transaction() as work:
        assert await work.fetchval("SELECT count(*) FROM sessions WHERE id = ANY($1::uuid[])", sessions) == 60
        assert await work.fetchval("SELECT count(*) FROM outbox WHERE causation_id = ANY($1::uuid[])", ids) == 60
    handled = [one for owner in (slow, quick) for batch in owner.recorder.batches for one in batch]
    assert is_cut_off or sorted(handled) == sorted([*ids, last.id]), "what the first has done, the second is not asked"
