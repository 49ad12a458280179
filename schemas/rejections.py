"""How a command that has no effect is answered: one CommandRejected, caused by the command."""

from __future__ import annotations

from datetime import datetime

from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import CommandRejected
from schemas.ids import derived_id

TOO_MANY = 429


def rejection(command: Envelope, reject: Reject, *, source: str, now: datetime) -> Envelope:
    """The event that tells the caller; the same command and code give the same id, but for one refused each time."""
    times = (command.time,) if reject.status == TOO_MANY else ()
    body = CommandRejected(
        subject=command.body.key(),
        command_type=command.body.ce_type,
        code=reject.code,
        status=reject.status,
        detail=reject.detail,
        field=reject.field,
        extra=reject.extra,
    )
    return command.caused(body, source=source, time=now, id=derived_id("rejected", command.id, reject.code, *times))


def is_refused_for_now(event: Envelope) -> bool:
    """Whether it tells that the command may be sent again, under its Idempotency-Key too."""
    return isinstance(event.body, CommandRejected) and event.body.status == TOO_MANY
