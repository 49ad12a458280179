"""How much of one thing a tenant may have at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.ids import advisory_key
from schemas.records import Body
from storage.postgres.identity import DEFAULT_TENANT
from storage.postgres.unit_of_work import UnitOfWork

StateT = TypeVar("StateT")

RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """At most so many for each tenant; the tenant `default` has no limit."""

    most: int

    def holds_for(self, tenant_id: UUID) -> bool:
        """Whether the tenant has this limit."""
        return tenant_id != DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class WaitingLimit(Generic[StateT]):
    """How many of one thing may wait for each tenant.

    `waiting` is what of SQL's FROM and WHERE finds those that wait. Commands of the kinds `asked_by` may add to them:
    a fact that `enters`, by what was known before its command, is one more, the fact `left` one less.
    """

    limit: TenantLimit
    what: str
    waiting: str
    asked_by: tuple[type[Body], ...]
    enters: Callable[[StateT | None, Body], bool]
    left: type[Body] | None = None

    async def room(self, work: UnitOfWork, commands: Sequence[Envelope]) -> Room[StateT]:
        """What waits before `commands` take effect; counting ends at the limit, however long the queue is.

        From half of the limit on, a tenant's batches take turns, so that those of other workers are counted too.
        """
        asking = Counter(
            command.tenant_id
            for command in commands
            if isinstance(command.body, self.asked_by) and self.limit.holds_for(command.tenant_id)
        )
        waiting = await self._count(work, list(asking))
        close = sorted(tenant for tenant, n in asking.items() if 2 * (waiting[tenant] + n) > self.limit.most)
        if close:
            keys = sorted(advisory_key("waiting", self.what, tenant) for tenant in close)
            await work.execute("SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k", keys)
            waiting |= await self._count(work, close)
        return Room(self, waiting)

    async def _count(self, work: UnitOfWork, tenants: list[UUID]) -> dict[UUID, int]:
        if not tenants:
            return {}
        rows = await work.fetch(
            f"SELECT t.id, (SELECT count(*) FROM (SELECT FROM {self.waiting} AND tenant_id = t.id LIMIT $2) found) AS n"  # noqa: S608
            " FROM unnest($1::uuid[]) AS t(id)",
            tenants,
            self.limit.most,
        )
        return {row["id"]: row["n"] for row in rows}


class Room(Generic[StateT]):
    """What waits for each tenant while a batch of commands is decided, one after another."""

    def __init__(self, limit: WaitingLimit[StateT], waiting: dict[UUID, int]) -> None:
        self._limit = limit
        self._waiting = waiting

    def take(self, command: Envelope, state: StateT | None, facts: Sequence[Body]) -> None:
        """Counts what follows from a command, given what was known before it.

        Raises: Reject 429 if more would wait than may; the same command may be sent again, under its Idempotency-Key
        too.
        """
        if command.tenant_id not in self._waiting:
            return
        limit, n = self._limit, self._waiting[command.tenant_id]
        entered = sum(limit.enters(state, fact) for fact in facts)
        left = sum(isinstance(fact, limit.left) for fact in facts) if limit.left else 0
        most = limit.limit.most
        if entered and n + entered - left > most:
            raise Reject(
                "too_many_waiting",
                429,
                f"{n} {limit.what} of your organisation wait already, at most {most} may:"
                " send this again when some are done",
                limit=most,
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting[command.tenant_id] = n + entered - left
