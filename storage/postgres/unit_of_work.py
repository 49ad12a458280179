"""The one way to PostgreSQL: a transaction with a scope. `commit` happens here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from schemas.errors import Busy, Retry
from telemetry.metrics import DB_ERRORS, DB_POOL_WAIT_SECONDS, DB_TRANSACTION_SECONDS

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    ProxyConnection: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What passes by itself: the whole transaction may be repeated."""

UniqueViolation = asyncpg.UniqueViolationError
"""Another transaction has stored what must stand once."""


TENANT_ROLE = "ragline_tenant"
"""Under which a tenant's reads run (decision 0012)."""
_BEGIN_AS_TENANT = (
    f"BEGIN; SELECT set_config('role', '{TENANT_ROLE}', true), set_config('ragline.tenant_id', '{{}}', true)"
)
_COMMITTED = DB_TRANSACTION_SECONDS.labels("committed")
_FAILED = DB_TRANSACTION_SECONDS.labels("failed")


class UnitOfWork:
    """One transaction. `tenant_id` is its scope; None is the system's (consumers that serve all tenants).

    Within a tenant's scope PostgreSQL itself shows that tenant's rows alone, and lets nothing be written.
    """

    def __init__(self, connection: ProxyConnection, tenant_id: UUID | None) -> None:
        self._connection = connection
        self.tenant_id = tenant_id
        self.after_commit: list[Callable[[], None]] = []
        self.began_at: datetime | None = None

    async def now(self) -> datetime:
        """When this transaction began, by PostgreSQL's clock: the one clock that all processes share."""
        if self.began_at is None:
            self.began_at = await self.fetchval("SELECT now()")
        return self.began_at

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Every row."""
        return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first column of the first row."""
        return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> int:
        """Runs one statement; the number of rows it touched."""
        status = await self._connection.execute(sql, *args)
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0


class Database:
    """A pool of connections to PostgreSQL.

    Opens lazily, so that a process starts and accepts while PostgreSQL is away. A transaction in which its process
    says nothing for `idle_timeout_s` is ended by the server: a frozen process must not hold what others wait for.
    """

    def __init__(
        self, dsn: str, *, max_connections: int = 10, timeout_s: float = 30.0, idle_timeout_s: float = 10.0
    ) -> None:
        self._dsn = dsn
        self._server_settings = {
            "application_name": "ragline",
            "idle_in_transaction_session_timeout": str(int(idle_timeout_s * 1000)),
        }
        self._max = max_connections
        self._timeout_s = timeout_s
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def transaction(
        self, tenant_id: UUID | None = None, *, timeout_s: float | None = None
    ) -> AsyncIterator[UnitOfWork]:
        """One transaction: committed at the end of the block, rolled back by an exception.

        Raises: Retry if PostgreSQL is away, busy or chose this transaction as a deadlock's victim; Busy for a lock
        that it was not given in time.
        """
        async with self._lent(timeout_s) as connection:
            work = UnitOfWork(connection, tenant_id)
            async with _transaction(connection, tenant_id):
                yield work
        for callback in work.after_commit:
            callback()

    async def fetchval_alone(self, sql: str, *args: Any) -> Any:
        """The first column of the first row of one statement that commits by itself. Raises: as `transaction`."""
        async with self._lent() as connection:
            return await connection.fetchval(sql, *args)

    @asynccontextmanager
    async def _lent(self, timeout_s: float | None = None) -> AsyncIterator[ProxyConnection]:
        """A connection of the pool for one transaction, which is timed. Raises: Retry; Busy."""
        asked_s, began_s, outcome = time.perf_counter(), None, _FAILED
        try:
            pool = await self._open()
            async with pool.acquire(timeout=timeout_s or self._timeout_s) as connection:
                began_s = time.perf_counter()
                yield connection
                outcome = _COMMITTED
        except AWAY as error:
            DB_ERRORS.labels(type(error).__name__).inc()
            kind = Busy if isinstance(error, asyncpg.LockNotAvailableError) else Retry
            raise kind(f"PostgreSQL: {type(error).__name__}: {error}") from error
        finally:
            ended_s = time.perf_counter()
            DB_POOL_WAIT_SECONDS.observe((began_s or ended_s) - asked_s)
            if began_s is not None:
                outcome.observe(ended_s - began_s)

    @asynccontextmanager
    async def own_connection(self, *, command_timeout_s: float | None = 30.0) -> AsyncIterator[Connection]:
        """A connection outside the pool, for session-level advisory locks. Raises: Retry."""
        try:
            connection: Connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=command_timeout_s)
        except AWAY as error:
            raise Retry(f"PostgreSQL: {type(error).__name__}: {error}") from error
        try:
            yield connection
        finally:
            connection.terminate()

    async def close(self) -> None:
        """Ends every connection, in at most 5 s."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()

    async def _open(self) -> Pool:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._dsn,
                        min_size=0,
                        max_size=self._max,
                        timeout=5,
                        command_timeout=self._timeout_s,
                        init=_init_connection,
                        reset=_reset,
                        server_settings=self._server_settings,
                    )
        return self._pool


@asynccontextmanager
async def _transaction(connection: ProxyConnection, tenant_id: UUID | None) -> AsyncIterator[None]:
    """The scope is set in the round trip that begins the transaction."""
    try:
        await connection.execute("BEGIN" if tenant_id is None else _BEGIN_AS_TENANT.format(tenant_id))
        yield
        await _commit(connection)
    except BaseException:
        with contextlib.suppress(*AWAY):  # a lost connection ends its transaction; the error that ends the block counts
            await connection.execute("ROLLBACK")
        raise


async def _commit(connection: ProxyConnection) -> None:
    """PostgreSQL answers ROLLBACK, and no error, where a statement has failed: somebody has passed over that."""
    if (did := await connection.execute("COMMIT")) != "COMMIT":
        raise RuntimeError(f"PostgreSQL has committed nothing, but answered {did}: a statement's error was passed over")


async def _reset(connection: Connection) -> None:
    """All that is set here is a transaction's own: asyncpg's reset would be one more round trip before the publish."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def _init_connection(connection: Connection) -> None:
    encode = functools.partial(orjson.dumps, default=str)
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=lambda value: encode(value).decode(), decoder=json.loads, schema="pg_catalog"
        )
