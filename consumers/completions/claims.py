"""Whose turn it is: leases on completions, fair between tenants, one at a time in a session (design §6, Wake-up)."""

from __future__ import annotations

from collections.abc import Callable

from consumers.completions.job import Job, job_from_row
from consumers.tenant_limit import TenantLimit
from schemas.errors import Retry
from storage.postgres.identity import DEFAULT_TENANT
from storage.postgres.unit_of_work import Database, UniqueViolation
from telemetry.metrics import STREAM_TAKE_OVERS

HEADROOM = 20
"""Candidates beyond what is asked for: another worker may be claiming the first ones at the same moment."""

# A tenant's next job waits behind as many others as the tenant has running already; its turn may not exceed its limit.
# What was begun goes before what waits, and what is only to be ended counts for nothing. Every step reads an index and
# stops early: a tenant's first jobs, not all that wait (OFFSET keeps the planner from joining all sessions instead).
# Two workers that claim at once see the same turns, so they keep the limit together.
_CLAIM = f"""
WITH RECURSIVE tenants(id) AS (
  (SELECT tenant_id FROM completions WHERE status = 'pending' ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT c.tenant_id FROM completions c WHERE c.status = 'pending' AND c.tenant_id > t.id
    ORDER BY c.tenant_id LIMIT 1) FROM tenants t WHERE t.id IS NOT NULL
), begun AS MATERIALIZED (
  SELECT id, tenant_id, session_id, status, created_at,
    coalesce(lease_until > now(), false) OR (lease_owner IS NOT NULL AND NOT $6) AS is_held,
    coalesce(not_before > now(), false) AS is_paused
  FROM completions WHERE status IN ('in_progress', 'cancelling')
), running AS (
  SELECT tenant_id, count(*) AS n FROM begun WHERE is_held GROUP BY tenant_id
), free AS (
  SELECT id, tenant_id, created_at, CASE status WHEN 'cancelling' THEN 0 ELSE 1 END AS class
  FROM begun WHERE NOT is_held AND NOT is_paused
  UNION ALL
  SELECT waiting.id, t.id, waiting.created_at, 2
  FROM tenants t LEFT JOIN running r ON r.tenant_id = t.id CROSS JOIN LATERAL (
    SELECT c.id, c.created_at FROM completions c
    WHERE c.tenant_id = t.id AND c.status = 'pending' AND (t.id = $4 OR coalesce(r.n, 0) < $5)
      AND c.session_id NOT IN (SELECT session_id FROM begun) AND NOT EXISTS (
        SELECT FROM completions o WHERE o.session_id = c.session_id AND o.queue_no < c.queue_no
        AND o.status IN ('pending', 'in_progress', 'cancelling') OFFSET 0)
    ORDER BY c.created_at LIMIT $3 + {HEADROOM} / (SELECT count(*) FROM tenants)
  ) waiting
), turns AS (
  SELECT f.*, coalesce(r.n, 0)
    + row_number() OVER (PARTITION BY f.tenant_id ORDER BY f.class, f.created_at, f.id) AS turn
  FROM free f LEFT JOIN running r USING (tenant_id)
), next AS (
  SELECT id, turn, created_at FROM turns WHERE class = 0 OR tenant_id = $4 OR turn <= $5
  ORDER BY turn, created_at, id LIMIT $3 + {HEADROOM}
), locked AS (
  SELECT c.id, c.lease_owner IS NOT NULL AS was_held FROM next JOIN completions c USING (id)
  WHERE c.status IN ('pending', 'in_progress', 'cancelling')
    AND (c.lease_until IS NULL OR c.lease_until <= now()) AND (c.not_before IS NULL OR c.not_before <= now())
    AND (c.lease_owner IS NULL OR $6)
  ORDER BY next.turn, next.created_at, c.id LIMIT $3 FOR UPDATE OF c SKIP LOCKED
)
UPDATE completions c SET attempt = c.attempt + 1, barren_attempts = c.barren_attempts + 1, lease_owner = $1,
  lease_until = now() + make_interval(secs => $2), not_before = NULL,
  status = CASE WHEN c.status = 'pending' THEN 'in_progress' ELSE c.status END
FROM locked WHERE c.id = locked.id RETURNING c.*, locked.was_held
"""  # noqa: S608 - no input in it


async def claim(
    database: Database,
    *,
    owner: str,
    lease_s: float,
    limit: int,
    running: TenantLimit,
    may_take_over: Callable[[], bool],
) -> list[Job]:
    """Takes up to `limit` heads of sessions' queues whose lease is free.

    `may_take_over` is asked when PostgreSQL has answered: whether one that expired is free, too. Raises: Retry.
    """
    try:
        async with database.transaction() as work:
            rows = await work.fetch(_CLAIM, owner, lease_s, limit, DEFAULT_TENANT, running.most, may_take_over())
            jobs = [job_from_row(row) for row in rows]
            if jobs:
                await work.execute(
                    "UPDATE messages SET status = 'in_progress' WHERE id = ANY($1::uuid[]) AND status = 'pending'",
                    [job.message_id for job in jobs],
                )
            n_taken_over = sum(row["was_held"] for row in rows)
            work.after_commit.append(lambda: STREAM_TAKE_OVERS.inc(n_taken_over))
            return jobs
    except UniqueViolation as error:
        raise Retry(f"another worker claimed in the same session: {error}") from error


async def expire_leases(database: Database, *, owner: str) -> int:
    """A process that has just taken the slot `owner` knows that its predecessor is dead: its jobs are free at once."""
    async with database.transaction() as work:
        return await work.execute(
            "UPDATE completions SET lease_until = now()"
            " WHERE lease_owner = $1 AND lease_until > now() AND status IN ('in_progress', 'cancelling')",
            owner,
        )
