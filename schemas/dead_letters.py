"""Dead letters as people see them: in HTTP answers and as the JSON of `ragline dlq`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.http import RequestBody, ResponseBody

ActionName = Literal["redriven", "discarded"]


class DeadLetterAction(ResponseBody):
    """What was done with a dead letter: the audit record."""

    action: ActionName
    by: str
    at: datetime


class DeadLetterView(ResponseBody):
    """One dead letter. `topic` is the original one; `partition` and `offset` are those in `<topic>.dlq`.

    What the record's headers do not hold, or hold in no readable form, is null.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    step: str
    error: str
    at: datetime
    type: str | None
    id: str | None
    tenant_id: UUID | None
    user_id: UUID | None
    key: str | None
    size_bytes: int
    original_partition: int | None
    original_offset: int | None
    action: DeadLetterAction | None = None


class DeadLetterPosition(RequestBody):
    """Names one dead letter: the original topic, and where it stands in `<topic>.dlq`."""

    topic: Annotated[str, Field(max_length=200)]
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    offset: Annotated[int, Field(ge=0, lt=2**62)]


class Redriven(ResponseBody):
    """The letter with its action; `is_new` is false where it was redriven before, and nothing was published."""

    letter: DeadLetterView
    is_new: bool
