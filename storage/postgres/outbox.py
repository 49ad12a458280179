"""The outbox: events commit with the state they follow from, and are published after (design §5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.envelope import Envelope, Headers
from schemas.events import CommandRejected
from schemas.topics import Topic
from storage.postgres.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A record as it will stand on its topic."""

    id: UUID
    topic: str
    key: str
    headers: Headers
    value: bytes

    @classmethod
    def of(cls, topic: Topic, envelope: Envelope) -> OutboxRecord:
        """Encodes the envelope, once."""
        if envelope.body.ce_type not in topic.by_type:
            raise ValueError(f"{envelope.body.ce_type} is not registered on {topic.name}")
        return cls(envelope.id, topic.name, envelope.body.key(), envelope.headers(), envelope.body.encode())


Outgoing = tuple[Topic, Envelope]


async def add(work: UnitOfWork, outgoing: Sequence[Outgoing]) -> list[OutboxRecord]:
    """Stores the events in the caller's transaction; publish what is returned after the commit.

    A derived id that stands already is neither stored nor returned again.
    """
    records = [OutboxRecord.of(topic, envelope) for topic, envelope in outgoing]
    if not records:
        return []
    rows = await work.fetch(
        "WITH added AS ("
        "INSERT INTO outbox (id, tenant_id, causation_id, topic, key, type, headers, value)"
        " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],"
        " $7::jsonb[], $8::bytea[]) ON CONFLICT (id) DO NOTHING RETURNING id)"
        " INSERT INTO outbox_unpublished (id) SELECT id FROM added RETURNING id",
        [record.id for record in records],
        [envelope.tenant_id for _, envelope in outgoing],
        [envelope.causation_id for _, envelope in outgoing],
        [record.topic for record in records],
        [record.key for record in records],
        [envelope.body.ce_type for _, envelope in outgoing],
        [{name: raw.decode() for name, raw in record.headers} for record in records],
        [record.value for record in records],
    )
    inserted = {row["id"] for row in rows}
    return records if len(inserted) == len(records) else [record for record in records if record.id in inserted]


async def caused_by(work: UnitOfWork, commands: Sequence[UUID], *, source: str) -> list[OutboxRecord]:
    """What `source` answered to commands that it decided before, in order.

    A rejection that something else followed (after a redrive, or when it was sent again) is no answer any more.
    """
    rows = await work.fetch(
        "SELECT id, topic, key, headers, value, causation_id, type FROM outbox WHERE causation_id = ANY($1::uuid[])"
        " AND headers->>'ce_source' = $2 ORDER BY xact_id, seq",
        list(commands),
        source,
    )
    effective = {row["causation_id"] for row in rows if row["type"] != CommandRejected.ce_type}
    return [
        _record(row) for row in rows if row["type"] != CommandRejected.ce_type or row["causation_id"] not in effective
    ]


async def unpublished(work: UnitOfWork, *, older_than_s: float, limit: int) -> list[OutboxRecord]:
    """What nobody published in time, oldest first."""
    rows = await work.fetch(
        "SELECT id, topic, key, headers, value FROM outbox_unpublished AS u JOIN outbox USING (id)"
        " WHERE u.created_at < now() - make_interval(secs => $1) ORDER BY xact_id, seq LIMIT $2",
        older_than_s,
        limit,
    )
    return [_record(row) for row in rows]


async def mark_published(work: UnitOfWork, ids: Sequence[UUID]) -> None:
    """The broker has them.

    The commit is not waited for on disk: a mark that is lost in a crash means one more publish under the same id.
    """
    await work.execute(
        "DELETE FROM outbox_unpublished USING set_config('synchronous_commit', 'off', true) WHERE id = ANY($1::uuid[])",
        list(ids),
    )


async def publish_again(work: UnitOfWork, ids: Sequence[UUID], *, after_s: float) -> None:
    """Hands records to the relay once more, unless that was done less than `after_s` ago."""
    await work.execute(
        "WITH again AS (UPDATE outbox SET issued_again_at = now() WHERE id = ANY($1::uuid[])"
        " AND coalesce(issued_again_at, created_at) < now() - make_interval(secs => $2) RETURNING id)"
        " INSERT INTO outbox_unpublished (id) SELECT id FROM again ON CONFLICT DO NOTHING",
        list(ids),
        after_s,
    )


def _record(row: Any) -> OutboxRecord:
    headers = [(name, text.encode()) for name, text in row["headers"].items()]
    return OutboxRecord(row["id"], row["topic"], row["key"], headers, row["value"])
