"""One writer per vector table at a time, by an advisory lock that ends with its transaction."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.ids import advisory_key
from storage.postgres.unit_of_work import UnitOfWork


async def lock_tables(work: UnitOfWork, tables: Iterable[str]) -> None:
    """Waits until this transaction is the only writer of each table; always in the same order."""
    await work.execute(
        "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k", sorted(_key(table) for table in set(tables))
    )


async def try_lock_table(work: UnitOfWork, table: str) -> bool:
    """Becomes the table's writer if nobody else is, without waiting."""
    return bool(await work.fetchval("SELECT pg_try_advisory_xact_lock($1)", _key(table)))


def _key(table: str) -> int:
    return advisory_key("vector table", table)
