"""PostgreSQL: version, schema, what promises rest on, its clock; and what its rows say of relay, workers and leases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from consumers.rebuild.other_models import documents_of_other_models
from ragline.doctor.clocks import clock
from ragline.doctor.disk import free_space
from ragline.doctor.findings import Finding, Patient
from ragline.settings import SettingsError
from ragline.wiring.doctor import asking_postgres, embedding_model
from schemas.ids import advisory_key
from storage.postgres import migrate
from storage.postgres.unit_of_work import TENANT_ROLE, Database, UnitOfWork

REMEDY = "Start PostgreSQL (`ragline dev` starts its own), or set RAGLINE_POSTGRES_DSN to its address."
OLDEST = 16
"""GRANT … WITH SET, by which a tenant's reads run under a role (decision 0012)."""
NOT_OURS = "the schema is not this program's"
SPARE_CONNECTIONS = 30
"""Two more workers' and an edge's worth."""
LATE_S = 30.0
"""The relay sweeps each second what is older than two."""

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
  current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('max_connections')::int AS most, (SELECT count(*) FROM pg_stat_activity) AS used,
  (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS folder,
  extract(epoch FROM clock_timestamp())::float8 AS clock_s
"""
_ACTIVE = """
SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_UNPUBLISHED = """
SELECT count(*) AS n, extract(epoch FROM now() - min(created_at))::float8 AS age_s FROM outbox_unpublished
"""
_EXPIRED = """
SELECT (SELECT count(*) FROM completions WHERE status IN ('in_progress', 'cancelling')
    AND lease_until < now() - make_interval(secs => $1)) AS answers,
  (SELECT count(*) FROM document_versions WHERE status IN ('queued', 'parsing', 'embedding', 'indexing')
    AND lease_until < now() - make_interval(secs => $1)) AS documents
"""
_MOST_SLOTS = 256


async def postgres(patient: Patient) -> AsyncGenerator[Finding, None]:
    """Every check of PostgreSQL. Raises: Retry if it does not answer."""
    async with asking_postgres(patient.dsn) as database:
        for finding in await _server(database, patient):
            yield finding
        schema = await _schema(patient.dsn)
        yield schema
        if schema.status != "ok":
            for name in ("postgres.tenants", "relay", "workers", "outbox", "leases", "documents"):
                yield Finding(name, "skipped", NOT_OURS)
            return
        async with database.transaction() as work:
            yield await _tenants(work)
            for finding in await _roles(work):
                yield finding
            yield await _outbox(work)
            yield await _leases(work)
        yield await _documents(database, patient)


async def _server(database: Database, patient: Patient) -> list[Finding]:
    async with database.transaction() as work:
        asked_s = patient.wall_s()
        row = await work.fetchrow(_SERVER)
        answered_s = patient.wall_s()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    found = f"PostgreSQL {row['version']}, {row['encoding']}"
    if row["major"] < OLDEST:
        server = Finding("postgres", "wrong", found, f"Use PostgreSQL {OLDEST} or newer.")
    elif row["encoding"] != "UTF8":
        server = Finding("postgres", "wrong", found, "Create the database with ENCODING 'UTF8'.")
    else:
        server = Finding("postgres", "ok", found)
    return [server, clock("postgres.clock", "PostgreSQL", row["clock_s"], asked_s, answered_s), *_configuration(row)]


def _configuration(row: Any) -> Iterator[Finding]:
    off = [name for name in ("fsync", "full_page_writes") if row[name] != "on"]
    if off:
        remedy = (
            f"Set {' and '.join(f'{name}=on' for name in off)} in postgresql.conf: a power cut loses what was promised."
        )
        yield Finding("postgres.durability", "wrong", f"{', '.join(off)} is off", remedy)
    else:
        yield Finding("postgres.durability", "ok", "what is committed is on disk")
    found = f"{row['used']} of {row['most']} connections are in use"
    if row["most"] - row["used"] < SPARE_CONNECTIONS:
        remedy = "Raise max_connections in postgresql.conf: a worker takes up to 18, an edge 10, a relay 4."
        yield Finding("postgres.connections", "warning", found, remedy)
    else:
        yield Finding("postgres.connections", "ok", found)
    if row["folder"] and Path(row["folder"]).is_dir():  # on this machine, and we are told
        yield free_space("disk.postgres", Path(row["folder"]))


async def _schema(dsn: str) -> Finding:
    head, current = migrate.head_revision(), await migrate.current_revision(dsn)
    if current == head:
        return Finding("postgres.schema", "ok", f"the newest: {head}")
    if current is not None and current not in migrate.known_revisions():
        found = f"{current}, which this program does not know; it knows up to {head}"
        return Finding("postgres.schema", "wrong", found, "Run the newer Ragline that migrated it.")
    return Finding("postgres.schema", "wrong", f"{current or 'empty'}, the newest is {head}", "Run `ragline migrate`.")


async def _tenants(work: UnitOfWork) -> Finding:
    n = await work.fetchval("SELECT count(*) FROM tenants")
    may = await work.fetchval(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND pg_has_role(current_user, oid, 'SET'))", TENANT_ROLE
    )
    if not may:
        remedy = f"Run GRANT {TENANT_ROLE} TO the user of RAGLINE_POSTGRES_DSN WITH SET TRUE, as a superuser."
        return Finding("postgres.tenants", "wrong", f"reads cannot run under the role {TENANT_ROLE}", remedy)
    if not n:
        return Finding("postgres.tenants", "warning", "there is no tenant, so no key", "Run `ragline init`.")
    return Finding("postgres.tenants", "ok", f"{n} tenants; reads run under the role {TENANT_ROLE}")


async def _roles(work: UnitOfWork) -> list[Finding]:
    held = {row["key"] for row in await work.fetch(_ACTIVE)}
    n_workers = sum(advisory_key("slot", "worker", number) in held for number in range(_MOST_SLOTS))
    relay, workers = Finding("relay", "ok", "one is active"), Finding("workers", "ok", f"{n_workers} are running")
    if advisory_key("active", "relay") not in held:
        remedy = "Start `ragline relay`: it publishes what a worker that died left behind, and archives old events."
        relay = Finding("relay", "warning", "none is active", remedy)
    if not n_workers:
        workers = Finding("workers", "warning", "none is running", "Start `ragline worker`.")
    return [relay, workers]


async def _outbox(work: UnitOfWork) -> Finding:
    row = await work.fetchrow(_UNPUBLISHED)
    n, age_s = (row["n"], row["age_s"] or 0.0) if row is not None else (0, 0.0)
    if age_s < LATE_S:
        return Finding("outbox", "ok", f"{n} events are not known to be published, the oldest {age_s:.0f} s old")
    found = f"{n} events are not published, the oldest {age_s:.0f} s old"
    return Finding("outbox", "wrong", found, "Start `ragline relay`; if it runs, its log says why it cannot publish.")


async def _leases(work: UnitOfWork) -> Finding:
    row = await work.fetchrow(_EXPIRED, LATE_S)
    answers, documents = (row["answers"], row["documents"]) if row is not None else (0, 0)
    if not answers and not documents:
        return Finding("leases", "ok", "none has expired")
    found = f"the leases of {answers} answers and {documents} documents ran out more than {LATE_S:.0f} s ago"
    return Finding("leases", "warning", found, "Start `ragline worker`: no worker takes over what a dead one held.")


async def _documents(database: Database, patient: Patient) -> Finding:
    try:
        model = embedding_model(patient.settings)
    except SettingsError as error:
        return Finding("documents", "skipped", str(error))
    others = await documents_of_other_models(database, model)
    if not others:
        return Finding("documents", "ok", f"all were learnt under the embedding model {model}")
    found = ", ".join(f"{n} documents were learnt under {other}" for other, n in others.items())
    remedy = "Run `ragline rebuild vectors --execute`, or set `embedding` to that model."
    return Finding("documents", "warning", f"{found}: search, which uses {model}, does not find them", remedy)
