"""One writer per vector table at a time, by an advisory lock that ends with its transaction."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.ids import advisory_key
from storage.postgres.unit_of_work import UnitOfWork

SOON_S = 0.5
"""So long those wait for one tenant's table who serve others too."""
_MAY_BE_IDLE = "10min"
"""Writing and optimizing a table goes on outside of PostgreSQL, for minutes where it is large."""


async def lock_tables(work: UnitOfWork, tables: Iterable[str], *, within_s: float | None = None) -> None:
    """Waits until this transaction is the only writer of each table; always in the same order.

    With `within_s` only so long for each: the transaction ends as Busy.
    """
    await work.execute(
        "SELECT set_config('lock_timeout', $3, true), pg_advisory_xact_lock(k), set_config('lock_timeout', '0', true),"
        " set_config('idle_in_transaction_session_timeout', $2, true) FROM unnest($1::bigint[]) AS k",
        sorted(_key(table) for table in set(tables)),
        _MAY_BE_IDLE,
        str(int((within_s or 0) * 1000)),
    )


async def try_lock_table(work: UnitOfWork, table: str) -> bool:
    """Becomes the table's writer if nobody else is, without waiting."""
    return bool(
        await work.fetchval(
            "SELECT pg_try_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', $2, true)",
            _key(table),
            _MAY_BE_IDLE,
        )
    )


def _key(table: str) -> int:
    return advisory_key("vector table", table)
