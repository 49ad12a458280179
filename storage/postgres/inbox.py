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
    """`fresh` take effect now; `repeated` did before, same body; `conflicting` reuse a key with another body.

    Who was refused for now and is sent again later is fresh again; the refused record itself, read again, is not.
    """

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
        first.setdefault(_key(command), command)
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
    if len(entered) < len(keys):
        entered |= await _sent_again(work, consumer, [first[key] for key in keys if key not in entered])
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
        key = _key(command)
        if key in entered and first[key] is command:
            admission.fresh.append(command)
        elif known[key] == command.id:
            admission.repeated.append(command)
        else:
            admission.conflicting.append(command)
    return admission


async def refuse(work: UnitOfWork, consumer: str, commands: Sequence[Envelope]) -> None:
    """These had no effect and may be sent again; call it in the transaction that admitted them."""
    await work.execute(
        "UPDATE inbox i SET refused_time = t.time FROM unnest($2::uuid[], $3::timestamptz[]) AS t(key, time)"
        " WHERE i.consumer = $1 AND i.key = t.key",
        consumer,
        [_key(command) for command in commands],
        [command.time for command in commands],
    )


async def _sent_again(work: UnitOfWork, consumer: str, commands: Sequence[Envelope]) -> set[UUID]:
    """Enters those whose key was refused for an earlier command; their keys."""
    rows = await work.fetch(
        "UPDATE inbox i SET command_id = t.id, at = now(), refused_time = NULL"
        " FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) AS t(key, id, time)"
        " WHERE i.consumer = $1 AND i.key = t.key AND i.refused_time < t.time RETURNING i.key",
        consumer,
        [_key(command) for command in commands],
        [command.id for command in commands],
        [command.time for command in commands],
    )
    return {row["key"] for row in rows}


def _key(command: Envelope) -> UUID:
    return command.idempotency_id or command.id
