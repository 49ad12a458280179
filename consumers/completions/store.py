"""The completions' rows: checkpoint, call, hand over. Every write is fenced by the attempt (design §6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from consumers.completions.job import Base, Job
from storage.postgres.unit_of_work import Database, UnitOfWork

Fetchval = Callable[..., Awaitable[Any]]
"""The first column of a statement's first row."""


async def begin_call(
    fetchval: Fetchval, job: Job, *, context: dict[str, object] | None, model: str, lease_s: float
) -> str | None:
    """The fence right before a provider call: renews the lease and keeps what the model will see (if it is new).

    The row's status: `in_progress`, or `cancelling`, which forbids the call; None if the job is no longer this
    attempt's. Without it a taker that was paused after its fold would pay again for a finished answer. `fetchval` is a
    transaction's, or the one that commits by itself.
    """
    status: str | None = await fetchval(
        "UPDATE completions SET context = coalesce($3, context), model = $4,"
        " lease_until = now() + make_interval(secs => $5)"
        " WHERE id = $1 AND attempt = $2 AND status IN ('in_progress', 'cancelling') RETURNING status",
        job.id,
        job.attempt,
        context,
        model,
        lease_s,
    )
    return status


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The acked state of a running attempt; `base` None renews the lease alone."""

    job: Job
    base: Base | None
    attempt_start: int
    has_new_text: bool


async def checkpoint(database: Database, points: Sequence[Checkpoint], *, lease_s: float) -> dict[UUID, str]:
    """Stores many checkpoints and renews their leases; the status of every job that is still its attempt's.

    A job that is missing from the answer was fenced: its holder must stop. Raises: Retry.
    """
    points = sorted(points, key=lambda point: point.job.id)
    changed = [(point, point.base) for point in points if point.base is not None]
    async with database.transaction() as work:
        rows = await work.fetch(
            "WITH mine AS (SELECT c.id FROM completions c JOIN unnest($1::uuid[], $2::int[]) AS t(id, attempt)"
            " ON c.id = t.id AND c.attempt = t.attempt AND c.status IN ('in_progress', 'cancelling')"
            " ORDER BY c.id FOR UPDATE OF c)"
            " UPDATE completions c SET lease_until = now() + make_interval(secs => $3) FROM mine WHERE c.id = mine.id"
            " RETURNING c.id, c.status",
            [point.job.id for point in points],
            [point.job.attempt for point in points],
            lease_s,
        )
        await _store_bases(work, changed)
    return {row["id"]: row["status"] for row in rows}


async def _store_bases(work: UnitOfWork, changed: Sequence[tuple[Checkpoint, Base]]) -> None:
    if not changed:
        return
    await work.execute(
        "UPDATE completions c SET checkpoint_attempt = t.attempt, checkpoint_epoch = t.epoch, checkpoint_end = t.end_,"
        " checkpoint_seq = t.seq, chunk_ends = t.ends::jsonb, checkpoint_text = t.text_, checkpoint_offset = t.offset_,"
        " checkpoint_finished = t.finished, attempt_start = t.start_,"
        " barren_attempts = CASE WHEN t.fresh THEN 0 ELSE c.barren_attempts END"
        " FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::text[], $7::text[], $8::bigint[],"
        " $9::jsonb[], $10::int[], $11::bool[]) AS t(id, attempt, epoch, end_, seq, ends, text_, offset_,"
        " finished, start_, fresh) WHERE c.id = t.id AND c.attempt = t.attempt"
        " AND c.status IN ('in_progress', 'cancelling')",
        [point.job.id for point, _ in changed],
        [point.job.attempt for point, _ in changed],
        [base.state.epoch for _, base in changed],
        [base.state.end for _, base in changed],
        [base.state.seq for _, base in changed],
        [orjson.dumps(base.state.chunk_ends).decode() for _, base in changed],  # lists would nest the array
        [base.text for _, base in changed],
        [base.offset for _, base in changed],
        [base.state.finished.model_dump(mode="json") if base.state.finished else None for _, base in changed],
        [point.attempt_start for point, _ in changed],
        [point.has_new_text for point, _ in changed],
    )


async def hand_over(work: UnitOfWork, point: Checkpoint, *, after_s: float, is_barren: bool, model: str | None) -> bool:
    """Gives the job back with all that was acked; another attempt may begin after `after_s`. False if fenced.

    An attempt that ended for a reason outside the model is not counted as barren; another `model` begins its own count.
    """
    if point.base is not None:
        await _store_bases(work, [(point, point.base)])
    return bool(
        await work.execute(
            "UPDATE completions SET lease_until = now(), lease_owner = NULL, model = coalesce($4, model),"
            " not_before = now() + make_interval(secs => $3), barren_attempts = CASE WHEN $4 IS NOT NULL THEN 0"
            "  WHEN $5 THEN barren_attempts ELSE greatest(barren_attempts - 1, 0) END"
            " WHERE id = $1 AND attempt = $2 AND status IN ('in_progress', 'cancelling')",
            point.job.id,
            point.job.attempt,
            after_s,
            model,
            is_barren,
        )
    )
