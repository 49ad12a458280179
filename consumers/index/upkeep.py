"""Upkeep of the vector tables: `optimize` after so many commits, off the path of the commands."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from consumers.index.table_locks import try_lock_to_optimize
from schemas.errors import Retry
from storage.ports import VectorIndex
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

AFTER_ROWS, AFTER_SHARE = 5_000, 0.1
AT_MOST_ROWS = 50_000
"""So many may wait at any size: a search by text reads each of them."""


def is_due(n_waiting: int, n_rows: int, *, after_rows: int = AFTER_ROWS) -> bool:
    """Whether `n_waiting` of a table's `n_rows` are worth an `optimize`.

    It writes the table anew (LanceDB: its last million rows), and the old version stays on disk for minutes. With a
    share of the rows as the measure, what a row costs in the end is bounded.
    """
    return n_waiting >= min(AT_MOST_ROWS, max(after_rows, AFTER_SHARE * n_rows))


class IndexUpkeep:
    """Optimizes a table once enough new rows of this process wait for it (`is_due`), or it has been left alone.

    A search scans the rows that wait, so their number is what it costs.

    A process that dies forgets its counts; the next commits to the table start new ones.
    """

    def __init__(
        self, *, database: Database, vectors: VectorIndex, after_rows: int = AFTER_ROWS, interval_s: float = 10.0
    ) -> None:
        self._database = database
        self._vectors = vectors
        self._after_rows = after_rows
        self._interval_s = interval_s
        self._rows: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def committed(self, table: str, n_rows: int) -> None:
        """Counts new rows of a table."""
        self._rows[table] += n_rows

    def start(self, on_fail: Callable[[BaseException], None]) -> None:
        """Begins to look after the tables. `on_fail` hears of a bug that ends it."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                on_fail(error)

        self._task = asyncio.create_task(self._run(), name="index upkeep")
        self._task.add_done_callback(ended)

    async def stop(self) -> None:
        """Ends; an `optimize` at work is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.optimize_due()

    async def optimize_due(self) -> list[str]:
        """One round over the tables that need it; those that were optimized. One that fails holds up no other."""
        done = []
        for table, n_rows in list(self._rows.items()):
            try:
                if not await self._optimized(table, n_rows):
                    continue
            except Retry as retry:
                logger.warning("index upkeep: %s", retry)
                continue
            self._rows[table] -= n_rows
            if not self._rows[table]:
                del self._rows[table], self._seen[table]
            done.append(table)
        return done

    async def _optimized(self, table: str, n_rows: int) -> bool:
        """Whether it was due, and nobody else optimized it or removed from it. Raises: Retry."""
        is_left_alone = self._seen.get(table) == n_rows
        self._seen[table] = n_rows
        if not is_left_alone and not await self._is_due(table, n_rows):
            return False
        async with self._database.transaction() as work:
            if not await try_lock_to_optimize(work, table):
                return False
            await self._vectors.optimize(table)
        return True

    async def _is_due(self, table: str, n_waiting: int) -> bool:
        if n_waiting < self._after_rows:
            return False
        return is_due(n_waiting, await self._vectors.count(table), after_rows=self._after_rows)
