"""Who may do what with a vector table at once, by advisory locks that end with their transaction.

LanceDB lets one add rows while another optimizes: both commits stand. Rows that are changed or removed meanwhile make
the `optimize` fail at its end. So whoever adds is the only writer, whoever optimizes the only one to do so, and whoever
removes is alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.ids import advisory_key
from storage.postgres.unit_of_work import UnitOfWork

SOON_S = 0.5
"""So long those wait for one tenant's table who serve others too."""
_MAY_BE_IDLE = "10min"
"""Writing and optimizing a table goes on outside of PostgreSQL, for minutes where it is large."""


async def lock_tables(work: UnitOfWork, tables: Iterable[str], *, within_s: float | None = None) -> None:
    """Waits until nobody else writes or optimizes the tables; always in the same order.

    With `within_s` only so long for each: the transaction ends as Busy.
    """
    names = set(tables)
    # an optimize may take minutes: whoever waits for its end must not hold up those that add
    await _lock(work, [*sorted(map(_optimizing, names)), *sorted(map(_writing, names))], within_s)


async def lock_to_add(work: UnitOfWork, tables: Iterable[str], *, within_s: float) -> None:
    """Waits until nobody else writes the tables, as `lock_tables`; they may be optimized meanwhile."""
    await _lock(work, sorted(map(_writing, set(tables))), within_s)


async def try_lock_to_optimize(work: UnitOfWork, table: str) -> bool:
    """Becomes the one that optimizes the table, if nobody does or removes rows, without waiting."""
    return bool(
        await work.fetchval(
            "SELECT pg_try_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', $2, true)",
            _optimizing(table),
            _MAY_BE_IDLE,
        )
    )


async def _lock(work: UnitOfWork, keys: list[int], within_s: float | None) -> None:
    await work.execute(
        "SELECT set_config('lock_timeout', $3, true), pg_advisory_xact_lock(k), set_config('lock_timeout', '0', true),"
        " set_config('idle_in_transaction_session_timeout', $2, true) FROM unnest($1::bigint[]) AS k",
        keys,
        _MAY_BE_IDLE,
        str(int((within_s or 0) * 1000)),
    )


def _writing(table: str) -> int:
    return advisory_key("vector table", table)


def _optimizing(table: str) -> int:
    return advisory_key("optimized vector table", table)
