"""Leases on versions to learn: who works on which, fenced by the attempt's number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.records import Body
from storage.blobs.keys import tenant_prefix
from storage.postgres.unit_of_work import Database, UnitOfWork

SMALL_BYTES = 1024 * 1024
_MEDIUM_BYTES = 16 * SMALL_BYTES
_HANDICAP_S = 300
"""How much later a medium file counts as created; a large one twice that. Small files overtake, none starves."""

FENCE = "document_id = $1 AND version = $2 AND attempt = $3 AND status IN ('parsing', 'embedding')"
"""Holds for the holder of the newest attempt, and for nobody once the version ended or was deleted."""


_TURN = (
    "coalesce(held.n, 0)"
    " + CASE WHEN c.tenant_id = $9 AND (c.size_bytes > $4 OR c.document_id = ANY($8)) THEN 1 ELSE 0 END,"
    " greatest(c.created_at, c.not_before) + make_interval(secs => $6::float8 *"
    " CASE WHEN c.size_bytes <= $4 THEN 0 WHEN c.size_bytes <= $5 THEN 1 ELSE 2 END)"
)
"""How much its tenant has in work, then its age, less what it comes later for its size."""


class LeaseLost(Exception):  # noqa: N818 - reads as the fact it is
    """The version is somebody else's now, or ended, or was deleted: stop, silently."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A version and the attempt under which this process learns it.

    `barren_attempts` counts this one and those before it since the last progress; `age_s` is how long ago the
    first attempt began. `is_light`: it holds a place that is kept for what is quickly read.
    """

    document_id: UUID
    version: int
    attempt: int
    barren_attempts: int
    tenant_id: UUID
    tenant_name: str | None
    user_id: UUID
    status: str
    name: str
    type: str
    blob_key: str
    sha256: str
    size_bytes: int
    media_type: str | None
    embedding_model: str | None
    requested_by: UUID
    correlation_id: UUID
    traceparent: str | None
    age_s: float
    is_light: bool = False

    @property
    def fence(self) -> tuple[UUID, int, int]:
        """The arguments of `FENCE`; also names this attempt among all."""
        return self.document_id, self.version, self.attempt

    @property
    def prefix(self) -> str:
        """Where everything that is made of this version lies in the blob store."""
        return f"{document_prefix(self.tenant_id, self.document_id)}v{self.version}/"

    def caused(self, body: Body, *, now: datetime, by: UUID, id: UUID | None = None) -> Envelope:  # noqa: A002
        """An envelope for what follows from this work, in the chain of the command that asked for it."""
        return Envelope(
            body=body,
            tenant_id=self.tenant_id,
            user_id=self.user_id,
            source="documents/job",
            id=id or new_id(),
            time=now,
            correlation_id=self.correlation_id,
            causation_id=by,
            traceparent=self.traceparent,
        )


def document_prefix(tenant_id: UUID, document_id: UUID) -> str:
    """Where every blob of a document lies."""
    return f"{tenant_prefix(tenant_id)}documents/{document_id}/"


async def claim(
    work: UnitOfWork,
    *,
    owner: str,
    lease_s: float,
    is_light: bool,
    heavy: Collection[UUID] = (),
    served: UUID | None = None,
    may_take_over: bool = True,
) -> Claim | None:
    """The next version whose turn it is, leased to `owner`: first tenants with the least in work, then small files.

    `is_light`: only a small file, and none of the documents `heavy`. Who gave way stands in line from then on. Large
    and heavy ones of the tenant `served` come after those of others, as if one of its were in work still.
    `may_take_over`: whether a lease that expired is free.
    """
    row = await work.fetchrow(
        "WITH held AS (SELECT tenant_id, count(*) AS n FROM document_versions"  # noqa: S608 - no input in it
        "  WHERE status IN ('parsing', 'embedding') AND lease_until > now() GROUP BY tenant_id),"
        " next AS (SELECT c.document_id, c.version FROM document_versions c LEFT JOIN held USING (tenant_id)"
        "  WHERE c.status IN ('queued', 'parsing', 'embedding')"
        "  AND (c.lease_until IS NULL OR (c.lease_until <= now() AND $7))"
        "  AND (c.not_before IS NULL OR c.not_before <= now())"
        "  AND (NOT $3 OR c.size_bytes <= $4 AND c.document_id <> ALL($8::uuid[]))"
        f"  ORDER BY {_TURN} LIMIT 1 FOR UPDATE OF c SKIP LOCKED)"
        " UPDATE document_versions v SET attempt = v.attempt + 1, barren_attempts = v.barren_attempts + 1,"
        " status = CASE v.status WHEN 'queued' THEN 'parsing' ELSE v.status END, lease_owner = $1,"
        " lease_until = now() + make_interval(secs => $2), started_at = coalesce(v.started_at, now()),"
        " updated_at = now() FROM next, documents d"
        " WHERE (v.document_id, v.version) = (next.document_id, next.version) AND d.id = v.document_id"
        " RETURNING v.document_id, v.version, v.attempt, v.barren_attempts, v.tenant_id, v.user_id, v.status, d.name,"
        " (SELECT t.name FROM tenants t WHERE t.id = v.tenant_id) AS tenant_name,"
        " d.type, v.blob_key, v.sha256, v.size_bytes, v.media_type, v.embedding_model, v.requested_by,"
        " v.correlation_id, v.traceparent, extract(epoch FROM now() - v.started_at)::float8 AS age_s",
        owner,
        lease_s,
        is_light,
        SMALL_BYTES,
        _MEDIUM_BYTES,
        float(_HANDICAP_S),
        may_take_over,
        list(heavy),
        served,
    )
    return Claim(**dict(row), is_light=is_light) if row is not None else None


async def others_wait(database: Database) -> bool:
    """Whether a version could be claimed now that nobody works on. Raises: Retry."""
    async with database.transaction() as work:
        found = await work.fetchval(
            "SELECT EXISTS (SELECT FROM document_versions WHERE status IN ('queued', 'parsing', 'embedding')"
            " AND (lease_until IS NULL OR lease_until <= now()) AND (not_before IS NULL OR not_before <= now()))"
        )
    return bool(found)


async def another_waits(database: Database, *, than: UUID, heavy: Collection[UUID]) -> bool:
    """Whether a small file of another tenant, none of `heavy`, could be claimed now. Raises: Retry."""
    async with database.transaction() as work:
        found = await work.fetchval(
            "SELECT EXISTS (SELECT FROM document_versions WHERE status IN ('queued', 'parsing', 'embedding')"
            " AND (lease_until IS NULL OR lease_until <= now()) AND (not_before IS NULL OR not_before <= now())"
            " AND tenant_id <> $1 AND size_bytes <= $2 AND document_id <> ALL($3::uuid[]))",
            than,
            SMALL_BYTES,
            list(heavy),
        )
    return bool(found)


async def in_work(database: Database, document_ids: Collection[UUID]) -> set[UUID]:
    """Those of the documents that are learnt, or wait for it. Raises: Retry."""
    async with database.transaction() as work:
        rows = await work.fetch(
            "SELECT DISTINCT document_id FROM document_versions WHERE document_id = ANY($1::uuid[])"
            " AND status IN ('queued', 'parsing', 'embedding')",
            list(document_ids),
        )
    return {row["document_id"] for row in rows}


async def renew(database: Database, claims: Sequence[Claim], *, lease_s: float) -> list[Claim]:
    """Prolongs the leases; those of `claims` that another process took or whose document was deleted. Raises: Retry."""
    async with database.transaction() as work:
        rows = await work.fetch(
            "WITH held AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[]) AS t(document_id, version, attempt)),"
            " renewed AS (UPDATE document_versions v SET lease_until = now() + make_interval(secs => $4) FROM held"
            "  WHERE (v.document_id, v.version, v.attempt) = (held.document_id, held.version, held.attempt)"
            "  AND v.status IN ('parsing', 'embedding'))"
            " SELECT document_id, version, held.attempt FROM held JOIN document_versions v USING (document_id, version)"
            " WHERE v.attempt <> held.attempt OR v.status = 'deleted'",
            [held.document_id for held in claims],
            [held.version for held in claims],
            [held.attempt for held in claims],
            lease_s,
        )
    lost = {(row["document_id"], row["version"], row["attempt"]) for row in rows}
    return [held for held in claims if held.fence in lost]


async def hand_over(database: Database, held: Claim, *, after_s: float, is_barren: bool) -> None:
    """Ends the lease, so that whoever is free goes on, not before `after_s`. Raises: Retry.

    An attempt that ended for a reason outside the document is not counted as barren.
    """
    async with database.transaction() as work:
        await work.execute(
            "UPDATE document_versions SET lease_owner = NULL, lease_until = NULL,"
            " not_before = now() + make_interval(secs => $4),"
            " barren_attempts = CASE WHEN $5 THEN barren_attempts ELSE greatest(barren_attempts - 1, 0) END"
            " WHERE document_id = $1 AND version = $2 AND attempt = $3",
            *held.fence,
            after_s,
            is_barren,
        )
