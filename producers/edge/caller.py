"""Who asks, and under which ids the request is followed."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from telemetry.tracing import flags_of_a_new_trace

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

SCOPE_KEY = "ragline.caller"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a user of a tenant, by one of its keys."""

    tenant_id: UUID
    user_id: UUID
    role: Literal["user", "admin", "operator"]
    key_id: UUID

    @property
    def reads_only(self) -> UUID | None:
        """Whose sessions may be read; None: those of every user of the tenant."""
        return None if self.role == "admin" else self.user_id

    def may_read(self, tenant_id: UUID, user_id: UUID) -> bool:
        """Whether what belongs to `user_id` may be read."""
        return tenant_id == self.tenant_id and self.reads_only in {None, user_id}


@dataclass(frozen=True, slots=True)
class Trace:
    """The ids of one request, as given or minted: `x-request-id`, and W3C `traceparent`; `is_new`: minted here."""

    request_id: str
    traceparent: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """One request: who, its ids, its method and concrete path, and its headers (lower-case names)."""

    principal: Principal
    trace: Trace
    method: str
    path: str
    headers: dict[bytes, bytes]


def trace_of(headers: dict[bytes, bytes]) -> Trace:
    """The request's ids; what is missing or malformed is minted."""
    request_id, traceparent = headers.get(b"x-request-id"), headers.get(b"traceparent")
    minted = f"{random.getrandbits(320):080x}"
    known = request_id.decode() if request_id and _REQUEST_ID.fullmatch(request_id) else minted[48:]
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return Trace(known, traceparent.decode(), is_new=False)
    return Trace(known, f"00-{minted[:32]}-{minted[32:48]}-{flags_of_a_new_trace()}", is_new=True)


def _caller(request: Request) -> Caller:
    """What the gate has found out; it lets nobody unknown pass."""
    caller = request.scope[SCOPE_KEY]
    if not isinstance(caller, Caller):
        raise TypeError("the route was reached without passing the gate")
    return caller


_bearer = HTTPBearer(auto_error=False, description="An API key: 64 hex characters.")

Asking = Annotated[Caller, Depends(_caller)]
"""A FastAPI parameter: the caller."""

NEEDS_KEY = [Depends(_bearer)]
"""What tells the OpenAPI document that a route needs a key; the gate has checked it before."""
