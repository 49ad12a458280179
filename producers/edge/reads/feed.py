"""A tenant's kept outbox rows in commit order: what a transaction may still add stands behind every reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from schemas.feed import PUBLIC_TOPICS
from schemas.topics import CHAT_EVENTS, KNOWLEDGE_EVENTS, USAGE_EVENTS
from storage.postgres.unit_of_work import UnitOfWork

MAX_SCANNED = 1_000
MAX_PAGE_BYTES = 2 * 1024 * 1024
"""A page ends with the event that goes beyond it, so that one large event is a page of its own."""


class Position(NamedTuple):
    """Everything up to and with this row was read; positions compare in commit order."""

    xact_id: int
    seq: int


BEGINNING = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a reader sees.

    `user_id` None: those of every user. `session_id` and `document_id` together: what is about either.
    """

    user_id: UUID | None
    types: Sequence[str]
    session_id: UUID | None = None
    document_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One event as it stands on its topic, and where it stands in the feed."""

    position: Position
    created_at: datetime
    headers: dict[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows after a position.

    `read_to` is where to go on; `has_more`: at once. `is_held_up`: committed rows wait for an older transaction.
    """

    rows: Sequence[Row]
    read_to: Position
    read_to_at: datetime
    has_more: bool
    is_held_up: bool


async def horizon(work: UnitOfWork) -> Position:
    """Before which no transaction can add a row any more: where a reader begins that wants only what comes."""
    at: str = await work.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    return Position(int(at), 0)


# The cost of a read is bounded by the rows scanned, not by those that match. `ORDER BY … LIMIT` holds the planner to
# the index `outbox_feed`, also for the one row of `held_up`.
_SQL = """
WITH horizon AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS at),
scanned AS MATERIALIZED (
  SELECT xact_id, seq, topic, key, type, headers, value, created_at FROM outbox
  WHERE tenant_id = $1 AND (xact_id, seq) > ($2::text::xid8, $3::bigint) AND xact_id < (SELECT at FROM horizon)
  ORDER BY xact_id, seq LIMIT $13
), held_up AS MATERIALIZED (
  SELECT xact_id FROM outbox WHERE tenant_id = $1 AND xact_id >= (SELECT at FROM horizon)
  ORDER BY xact_id, seq LIMIT 1
), matched AS (
  SELECT *, count(*) OVER () AS n_matched, row_number() OVER one_by_one AS nth,
    coalesce(sum(octet_length(value)) OVER (one_by_one ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS n_before
  FROM scanned
  WHERE topic = ANY($4::text[]) AND type = ANY($5::text[])
    AND ($6::uuid IS NULL OR headers->>'ce_userid' = ($6::uuid)::text
      OR (topic = $9 AND type <> 'ragline.command.rejected.v1'))
    AND (($7::uuid IS NULL AND $8::uuid IS NULL)
      OR CASE topic WHEN $9 THEN key = ($8::uuid)::text WHEN $10 THEN key = ($7::uuid)::text
         WHEN $11 THEN convert_from(value, 'UTF8')::jsonb->>'session_id' = ($7::uuid)::text END)
  WINDOW one_by_one AS (ORDER BY xact_id, seq)
)
SELECT h.at::text AS horizon, now() AS now, (SELECT count(*) FROM scanned) AS n_scanned,
  l.xact_id::text AS last_xact_id, l.seq AS last_seq, l.created_at AS last_created_at,
  (SELECT count(*) > 0 FROM held_up) AS is_held_up,
  m.xact_id::text AS xact_id, m.seq, m.created_at, m.headers, m.value, m.n_matched
FROM horizon h
LEFT JOIN (SELECT xact_id, seq, created_at FROM scanned ORDER BY xact_id DESC, seq DESC LIMIT 1) l ON true
LEFT JOIN matched m ON m.nth <= $12 AND m.n_before < $14
ORDER BY m.nth
"""


async def feed_after(work: UnitOfWork, after: Position, wanted: Filter, *, limit: int) -> Slice:
    """The scope's next events, at most `limit`, in one statement of bounded cost."""
    found = await work.fetch(
        _SQL,
        work.tenant_id,
        str(after.xact_id),
        after.seq,
        [topic.name for topic in PUBLIC_TOPICS],
        list(wanted.types),
        wanted.user_id,
        wanted.session_id,
        wanted.document_id,
        KNOWLEDGE_EVENTS.name,
        CHAT_EVENTS.name,
        USAGE_EVENTS.name,
        limit,
        MAX_SCANNED,
        MAX_PAGE_BYTES,
    )
    rows = [
        Row(Position(int(r["xact_id"]), r["seq"]), r["created_at"], r["headers"], r["value"])
        for r in found
        if r["xact_id"] is not None
    ]
    first, is_held_up = found[0], found[0]["is_held_up"]
    if rows and len(rows) < first["n_matched"]:
        return Slice(rows, rows[-1].position, rows[-1].created_at, has_more=True, is_held_up=is_held_up)
    if first["n_scanned"] == MAX_SCANNED:
        read_to = Position(int(first["last_xact_id"]), first["last_seq"])
        return Slice(rows, read_to, first["last_created_at"], has_more=True, is_held_up=is_held_up)
    read_to = max(after, Position(int(first["horizon"]), 0))
    return Slice(rows, read_to, first["now"], has_more=False, is_held_up=is_held_up)
