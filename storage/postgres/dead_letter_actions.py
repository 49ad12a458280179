"""What was done with dead letters: a row an action, which is the audit record too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from schemas.dead_letters import ActionName, DeadLetterAction
from storage.postgres.unit_of_work import UnitOfWork


class Place(NamedTuple):
    """Where a dead letter stands: its original topic, and partition and offset in `<topic>.dlq`."""

    topic: str
    partition: int
    offset: int


async def actions_on(work: UnitOfWork, topics: Sequence[str]) -> dict[Place, DeadLetterAction]:
    """The newest action on each letter that can still be kept (31 days)."""
    rows = await work.fetch(
        'SELECT DISTINCT ON (topic, partition, "offset") topic, partition, "offset", action, by, at'
        " FROM dead_letter_actions WHERE topic = ANY($1::text[]) AND at > now() - interval '31 days'"
        ' ORDER BY topic, partition, "offset", at DESC',
        list(topics),
    )
    return {
        Place(r["topic"], r["partition"], r["offset"]): DeadLetterAction(action=r["action"], by=r["by"], at=r["at"])
        for r in rows
    }


async def action_on(work: UnitOfWork, place: Place, action: ActionName) -> DeadLetterAction | None:
    """This action, if it was done."""
    row = await work.fetchrow(
        'SELECT by, at FROM dead_letter_actions WHERE topic = $1 AND partition = $2 AND "offset" = $3 AND action = $4',
        *place,
        action,
    )
    return DeadLetterAction(action=action, by=row["by"], at=row["at"]) if row is not None else None


async def remember(
    work: UnitOfWork, place: Place, action: ActionName, *, by: str, record_id: str | None, tenant_id: UUID | None
) -> DeadLetterAction | None:
    """Enters the action; None if it stands already. Who asks at the same time waits for this transaction's end."""
    row = await work.fetchrow(
        'INSERT INTO dead_letter_actions (topic, partition, "offset", action, by, record_id, tenant_id)'
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING at",
        *place,
        action,
        by,
        record_id,
        tenant_id,
    )
    return DeadLetterAction(action=action, by=by, at=row["at"]) if row is not None else None
