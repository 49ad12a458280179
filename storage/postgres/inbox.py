"""The inbox: a command takes effect once (design §5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from schemas.envelope import Envelope
from schemas.errors import Reject
from storage.postgres.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Admission:
    """`fresh` take effect now; `repeated` did before, same body; `conflicting` reuse a key with another body."""

    fresh: list[Envelope]
    repeated: list[Envelope]
    conflicting: list[Envelope]


REUSED = Reject("idempotency_key_reused", 422, "this Idempotency-Key was used with another body")


async def admit(work: UnitOfWork, consumer: str, commands: Sequence[Envelope]) -> Admission:
    """Enters the commands; each key is entered once, by the first command that holds it, in log order.

    Holds after: the transaction knows its time.
    """
    first: dict[UUID, Envelope] = {}
    for command in commands:
        first.setdefault(command.idempotency_id or command.id, command)
    keys = sorted(first)
    [row] = await work.fetch(
        "WITH entered AS (INSERT INTO inbox (consumer, key, command_id)"
        " SELECT $1, k, c FROM unnest($2::uuid[], $3::uuid[]) AS t(k, c) ON CONFLICT DO NOTHING RETURNING key)"
        " SELECT now() AS now, array(SELECT key FROM entered) AS keys",
        consumer,
        keys,
        [first[key].id for key in keys],
    )
    work.began_at, entered = row["now"], set(row["keys"])
    known = {key: first[key].id for key in entered}
    if len(entered) < len(keys):
        seen = await work.fetch(
            "SELECT key, command_id FROM inbox WHERE consumer = $1 AND key = ANY($2::uuid[])",
            consumer,
            [key for key in keys if key not in entered],
        )
        known.update({row["key"]: row["command_id"] for row in seen})
    admission = Admission([], [], [])
    for command in commands:
        key = command.idempotency_id or command.id
        if key in entered and first[key] is command:
            admission.fresh.append(command)
        elif known[key] == command.id:
            admission.repeated.append(command)
        else:
            admission.conflicting.append(command)
    return admission
