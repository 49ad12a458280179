"""Reads that answer in time, or say that PostgreSQL does not: a frozen server must not freeze the edge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar
from uuid import UUID

from producers.edge.problems import database_unavailable
from schemas.errors import Retry
from storage.postgres.unit_of_work import Database, UnitOfWork

ResultT = TypeVar("ResultT")


class Reads:
    """Every read of the edge goes through here: one tenant-scoped transaction, at most `timeout_s` long."""

    def __init__(self, database: Database, *, timeout_s: float) -> None:
        self._database = database
        self.timeout_s = timeout_s

    async def __call__(
        self,
        tenant_id: UUID | None,
        query: Callable[[UnitOfWork], Awaitable[ResultT]],
        *,
        timeout_s: float | None = None,
    ) -> ResultT:
        """What `query` found. `tenant_id` None is for keys and health alone. Raises: Unavailable."""
        limit_s = timeout_s or self.timeout_s
        try:
            return await within(limit_s, self._run(tenant_id, query, limit_s))
        except (Retry, TimeoutError) as error:
            raise database_unavailable() from error

    async def _run(
        self, tenant_id: UUID | None, query: Callable[[UnitOfWork], Awaitable[ResultT]], timeout_s: float
    ) -> ResultT:
        async with self._database.transaction(tenant_id, timeout_s=timeout_s) as work:
            return await query(work)


async def within(timeout_s: float, work: Coroutine[object, object, ResultT]) -> ResultT:
    """What `work` returns. Raises: TimeoutError as soon as the time is over, whatever its clean-up takes."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            # Not awaited: on a frozen server a rollback takes as long as the driver's own timeout.
            task.add_done_callback(_forget)
            task.cancel()


def _forget(task: asyncio.Task[ResultT]) -> None:
    if not task.cancelled():
        task.exception()
