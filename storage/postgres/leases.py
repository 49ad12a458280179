"""Who a process is: exclusive slots and single-active roles, held by session-level advisory locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from schemas.errors import Retry, Stop
from schemas.ids import advisory_key
from storage.postgres.unit_of_work import AWAY, Database

if TYPE_CHECKING:
    from storage.postgres.unit_of_work import Connection

_TRY_LOCK = "SELECT pg_try_advisory_lock($1)"


class Slot:
    """An exclusive number among the processes of one role; free again as soon as this process dies."""

    def __init__(self, database: Database, role: str) -> None:
        self._database = database
        self.role = role
        self.number = -1
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """`<role>-<number>`, as in `worker-0`."""
        return f"{self.role}-{self.number}"

    async def acquire(self) -> None:
        """Takes the lowest free number. Raises: Retry if PostgreSQL is away."""
        connection = await self._connect()
        number = 0
        while not await connection.fetchval(_TRY_LOCK, advisory_key("slot", self.role, number)):
            number += 1
        self.number = number

    async def watch(self, *, interval_s: float = 1.0, patience_s: float = 15.0) -> None:
        """Takes the same number again whenever PostgreSQL comes back. Raises: Stop if another process has it."""
        taken_for_s = 0.0
        while taken_for_s < patience_s:
            await asyncio.sleep(interval_s)
            try:
                if self._connection is not None and not self._connection.is_closed():
                    await self._connection.fetchval("SELECT 1", timeout=interval_s * 5)
                    taken_for_s = 0.0
                    continue
                connection = await self._connect()
                if await connection.fetchval(_TRY_LOCK, advisory_key("slot", self.role, self.number)):
                    continue
                taken_for_s += interval_s
                connection.terminate()
            except (Retry, *AWAY):
                if self._connection is not None:
                    self._connection.terminate()
        raise Stop(f"slot {self.name} was taken over by another process")

    async def release(self) -> None:
        """Frees the number."""
        await self._stack.aclose()
        self._connection = None

    async def _connect(self) -> Connection:
        await self._stack.aclose()
        self._connection = await self._stack.enter_async_context(self._database.own_connection())
        return self._connection


@asynccontextmanager
async def single_active(database: Database, role: str) -> AsyncIterator[Connection]:
    """Waits until this process is the only active one of `role`, then runs the block. Raises: Retry."""
    async with database.own_connection(command_timeout_s=None) as connection:
        try:
            await connection.fetchval("SELECT pg_advisory_lock($1)", advisory_key("active", role))
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
            raise Retry(f"PostgreSQL: {error}") from error
        yield connection
