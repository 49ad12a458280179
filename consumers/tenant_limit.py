"""How much of one thing a tenant may have at once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from schemas.errors import Reject
from storage.postgres.identity import DEFAULT_TENANT

RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """At most so many for each tenant; the tenant `default` has no limit."""

    most: int

    def holds_for(self, tenant_id: UUID) -> bool:
        """Whether the tenant has this limit."""
        return tenant_id != DEFAULT_TENANT


def too_many_wait(n: int, most: int, what: str) -> Reject:
    """429: the same command may be sent again, under its Idempotency-Key too."""
    detail = f"{n} {what} of your organisation wait already, at most {most} may: send this again when some are done"
    return Reject("too_many_waiting", 429, detail, limit=most, retry_after_s=RETRY_AFTER_S)
