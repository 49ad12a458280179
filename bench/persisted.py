"""*persisted*: a backlog of PostMessage drained by the real transcript subscription.

Counted from the first batch in hand until every event is acked by the broker and marked in the outbox. A message is
two message rows, a completion, its session's new state, an inbox row, two outbox rows, two events on the topic.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from bench.measure import Row, alternate, at_least
from bench.persisted_peers import OneByOne, RawBatches, SameStatements
from bench.servers import Servers
from consumers.transcript.subscriber import transcript
from schemas.commands import PostMessage
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_COMMANDS
from storage.log.batch_runner import Subscription
from storage.log.producer import LogProducer, all_acked
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers
from storage.postgres.identity import DEFAULT_TENANT
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import Database, UnitOfWork
from tests.groups import group_at_end

N_MESSAGES, N_SESSIONS, N_ONE_BY_ONE = 20_000, 2_000, 150
CONTENT = "How does trace-based compilation decide when to compile a loop? Answer in two sentences."


@dataclass
class FirstBatch:
    """The subscription, with the time at which its first batch arrived."""

    at_s: float = 0.0
    at_cpu_s: float = 0.0

    def watch(self, subscription: Subscription) -> Subscription:
        """The same subscription; the clock starts with its first batch."""

        watched = subscription.handle
        assert watched is not None, "a subscription that does something"

        async def handle(work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
            self.at_s = self.at_s or time.perf_counter()
            self.at_cpu_s = self.at_cpu_s or time.process_time()
            return await watched(work, commands)

        return dataclasses.replace(subscription, handle=handle)


@dataclass(frozen=True)
class Drained:
    """How long it took, and how much of it this process worked."""

    wall_s: float
    cpu_s: float


class Drain:
    """Fills the command topic and drains it."""

    def __init__(
        self,
        servers: Servers,
        database: Database,
        producer: LogProducer,
        *,
        traceparent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._traceparent = traceparent
        self._servers = servers
        self._database = database
        self._producer = producer
        self._tenant, self._user = DEFAULT_TENANT, new_id()  # it has no limit, so that a backlog may wait

    async def commands(self, n_messages: int, n_sessions: int) -> list[Envelope]:
        """Commands round robin over new sessions, which stand in the database after."""
        sessions = [new_id() for _ in range(n_sessions)]
        async with self._database.transaction() as work:
            await work.execute(
                "INSERT INTO sessions (id, tenant_id, user_id, name, version)"
                " SELECT id, $2, $3, 'bench', 1 FROM unnest($1::uuid[]) AS t(id)",
                sessions,
                self._tenant,
                self._user,
            )
        return [self._command(sessions[number % n_sessions]) for number in range(n_messages)]

    async def fill(self, n_messages: int, n_sessions: int) -> None:
        """Writes the commands to the topic."""
        commands = await self.commands(n_messages, n_sessions)
        await all_acked([await self._producer.send(CHAT_COMMANDS, command) for command in commands])

    def _command(self, session_id: UUID) -> Envelope:
        body = PostMessage(
            session_id=session_id,
            message_id=new_id(),
            ai_message_id=new_id(),
            completion_id=new_id(),
            content=CONTENT,
        )
        trace = self._traceparent()
        return Envelope(body=body, tenant_id=self._tenant, user_id=self._user, source="edge", traceparent=trace)

    async def per_second(self, n_messages: int, n_sessions: int) -> float:
        """Messages per second of the real subscription."""
        return n_messages / (await self._drained(n_messages, n_sessions)).wall_s

    async def cpu_us(self, n_messages: int, n_sessions: int) -> float:
        """Microseconds of this process's CPU for each message."""
        return (await self._drained(n_messages, n_sessions)).cpu_s / n_messages * 1e6

    async def _drained(self, n_messages: int, n_sessions: int) -> Drained:
        group = await group_at_end(self._servers.kafka_bootstrap, CHAT_COMMANDS)
        await self.fill(n_messages, n_sessions)
        publisher = OutboxPublisher(self._database, self._producer)
        publisher.start()
        subscribers = Subscribers(
            self._servers.kafka_bootstrap,
            slot_name="bench",
            database=self._database,
            producer=self._producer,
            publisher=publisher,
        )
        failures: list[BaseException] = []
        first = FirstBatch()
        subscription = dataclasses.replace(transcript(), group=group)
        subscribers.consume(first.watch(subscription), failures.append)
        await subscribers.start()
        try:
            runner = subscribers.runners[group]
            while runner.n_processed < n_messages:
                if failures:
                    raise failures[0]
                await asyncio.sleep(0.005)
            await publisher.stop()
            drained = Drained(time.perf_counter() - first.at_s, time.process_time() - first.at_cpu_s)
            await self._check(n_messages, group)
            return drained
        finally:
            await subscribers.stop()

    async def _check(self, n_messages: int, group: str) -> None:
        """Raises: RuntimeError if anything is missing: a fast drain that loses something is none."""
        async with self._database.transaction() as work:
            n_done = await work.fetchval("SELECT count(*) FROM inbox WHERE consumer = $1", group)
            n_left = await work.fetchval("SELECT count(*) FROM outbox_unpublished")
        if (n_done, n_left) != (n_messages, 0):
            raise RuntimeError(f"persisted: {n_done} of {n_messages} done, {n_left} events not published")


async def run(servers: Servers, *, n_rounds: int, n_messages: int = N_MESSAGES) -> list[Row]:
    """The rows of *persisted*."""
    dsn = await servers.fresh_database("persisted")
    database = Database(dsn)
    producer = LogProducer(servers.kafka_bootstrap, client_id="bench")
    await producer.start()
    thin, same = RawBatches(dsn, content=CONTENT), SameStatements(dsn)
    await thin.prepare()
    drain = Drain(servers, database, producer)

    async def same_statements() -> float:
        return await same.per_second(await drain.commands(n_messages, N_SESSIONS))

    async def one_by_one() -> float:
        group = await group_at_end(servers.kafka_bootstrap, CHAT_COMMANDS)
        await drain.fill(N_ONE_BY_ONE + 1, N_ONE_BY_ONE + 1)
        worker = OneByOne(servers.kafka_bootstrap, database, producer, group=group)
        return await worker.per_second(N_ONE_BY_ONE)

    try:
        await drain.per_second(2_000, 200)  # warm: JVM, caches, first plans
        await _checkpoint(dsn)
        sides = await alternate(
            n_rounds,
            {
                "thin": lambda: thin.per_second(n_messages),
                "same": same_statements,
                "ours": lambda: drain.per_second(n_messages, N_SESSIONS),
                "one by one": one_by_one,
            },
        )
    finally:
        await producer.stop()
        await database.close()
    note = f"rounds: {sides.spread('ours')}"
    peers = (
        ("raw unnest × 200, three thin rows", "thin", 0.5, note),
        ("raw unnest × 200, our statements", "same", 0.5, ""),
        ("one message a transaction", "one by one", 50, ""),
    )
    return [
        at_least("persisted", peer, ours=sides["ours"], baseline=sides[side], factor=factor, unit="msg/s", note=more)
        for peer, side, factor, more in peers
    ]


async def _checkpoint(dsn: str) -> None:
    """Starts the rounds from a settled database, where that is allowed."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
    except asyncpg.InsufficientPrivilegeError:
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
