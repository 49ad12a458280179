"""What the doctor finds in a real Kafka and a real PostgreSQL, well and ill."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from ragline.dev_stack.embedded import EmbeddedServers
from ragline.doctor.edges import edges
from ragline.doctor.findings import Finding, Group, Patient, examine
from ragline.doctor.kafka import dead_letters, kafka
from ragline.doctor.postgres import postgres
from ragline.settings import Settings
from schemas.topics import USAGE_EVENTS
from storage.log.producer import LogProducer, all_acked
from storage.log.topic_admin import apply_topics, open_admin
from storage.postgres import migrate
from storage.postgres.leases import Slot, single_active
from storage.postgres.unit_of_work import Database
from tests.integration.edge.world import eventually

KAFKA, POSTGRES = Group("kafka", kafka, "start Kafka", 60.0), Group("postgres", postgres, "start PostgreSQL", 60.0)
LETTERS = Group("dead_letters", dead_letters, "see to them", 60.0)
SPARE = USAGE_EVENTS.dead_letter_topic
"""A topic that no other test writes to."""


@pytest.fixture
def patient(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> Patient:
    settings = Settings(home=tmp_path, kafka_bootstrap=servers.kafka_bootstrap, postgres_dsn=SecretStr(dsn))
    return Patient(settings)


async def found(patient: Patient, *groups: Group) -> dict[str, Finding]:
    return {one.name: one for one in await examine(patient, groups)}


async def test_what_is_well(patient: Patient) -> None:
    findings = await found(patient, KAFKA, POSTGRES)
    expected = {
        "kafka", "kafka.topics", "kafka.replication", "kafka.settings", "kafka.publish", "kafka.clock", "kafka.lag",
        "disk.kafka", "postgres", "postgres.clock", "postgres.durability", "postgres.connections", "postgres.schema",
        "postgres.tenants", "relay", "workers", "outbox", "leases", "documents",
    }  # fmt: skip
    assert findings.keys() == expected
    ill = {name for name, one in findings.items() if one.status != "ok"}
    assert ill - {"kafka.lag"} == {"postgres.tenants", "relay", "workers"}, findings
    assert findings["postgres.tenants"].remedy == "Run `ragline init`."
    assert not any(one.remedy for one in findings.values() if one.status == "ok")


async def test_topics_that_differ_from_the_registry(patient: Patient, servers: EmbeddedServers) -> None:
    try:
        async with open_admin(servers.kafka_bootstrap) as admin:
            wrong = ConfigResource(ConfigResourceType.TOPIC, SPARE, configs={"retention.ms": "1000"})
            await admin.alter_configs([wrong])
            finding = (await found(patient, KAFKA))["kafka.topics"]
            assert (finding.status, finding.remedy) == ("wrong", "Run `ragline topics apply`.")
            assert f"{SPARE}: retention.ms is 1000, not 2592000000" in finding.found
            await admin.delete_topics([SPARE])

            async def is_gone() -> bool:
                return SPARE not in await admin.list_topics()

            await eventually(is_gone)
        finding = (await found(patient, KAFKA))["kafka.topics"]
        assert (finding.status, finding.remedy) == ("wrong", "Run `ragline topics apply`.")
        assert finding.found == f"{SPARE} is missing"
    finally:
        await apply_topics(servers.kafka_bootstrap)
    assert (await found(patient, KAFKA))["kafka.topics"].status == "ok", "the remedy mends it"


@pytest.mark.parametrize(("off_s", "status"), [(100.0, "wrong"), (-100.0, "wrong"), (8.0, "warning")])
async def test_a_clock_that_is_wrong(patient: Patient, off_s: float, status: str) -> None:
    findings = await found(replace(patient, wall_s=lambda: time.time() + off_s), KAFKA, POSTGRES)
    for name, server in (("kafka.clock", "the broker"), ("postgres.clock", "PostgreSQL")):
        assert findings[name].status == status
        side = "behind" if off_s > 0 else "ahead of"
        assert findings[name].found.startswith(f"{server}'s clock is ")
        assert findings[name].found.endswith(f"s {side} this machine's")


async def test_a_session_timeout_that_the_broker_refuses(patient: Patient) -> None:
    worker = patient.settings.worker.model_copy(update={"session_timeout_ms": 2_000_000})
    ill = replace(patient, settings=patient.settings.model_copy(update={"worker": worker}))
    finding = (await found(ill, KAFKA))["kafka.settings"]
    assert finding.status == "wrong"
    assert "RAGLINE_WORKER__SESSION_TIMEOUT_MS" in finding.remedy


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_servers_that_are_away_end_their_own_checks_only(patient: Patient) -> None:
    with silent() as address:
        gone = {"kafka_bootstrap": address, "postgres_dsn": SecretStr(f"postgresql://ragline@{address}/ragline")}
        hanging = replace(patient, settings=patient.settings.model_copy(update=gone), edges=(f"http://{address}",))
        half = replace(hanging, settings=patient.settings.model_copy(update={"kafka_bootstrap": address}))
        short = [replace(group, within_s=0.5) for group in (KAFKA, POSTGRES, Group("edges", edges, "start the edge"))]
        findings = await found(hanging, *short)
        assert findings == {
            name: Finding(name, "wrong", "no answer within 0.5 s", f"start {what}")
            for name, what in (("kafka", "Kafka"), ("postgres", "PostgreSQL"), ("edges", "the edge"))
        }
        findings = await found(half, short[0], POSTGRES)
        assert (findings["kafka"].status, findings["postgres"].status) == ("wrong", "ok")
    refused = await found(hanging, KAFKA, POSTGRES, LETTERS, Group("edges", edges, "start the edge"))
    assert {name: one.status for name, one in refused.items()} == {
        "kafka": "wrong", "postgres": "wrong", "dead_letters": "skipped", "edges": "wrong",
    }  # fmt: skip
    assert refused["postgres"].remedy == "start PostgreSQL"


async def test_a_schema_that_is_behind_or_ahead(patient: Patient, database: Database) -> None:
    await migrate.downgrade(patient.dsn, "0001")
    findings = await found(patient, POSTGRES, LETTERS)
    assert findings["postgres.schema"].found == f"0001, the newest is {migrate.head_revision()}"
    assert (findings["postgres.schema"].status, findings["postgres.schema"].remedy) == (
        "wrong",
        "Run `ragline migrate`.",
    )
    assert {findings[name].status for name in ("outbox", "dead_letters")} == {"skipped"}
    await migrate.upgrade(patient.dsn)
    async with database.transaction() as work:
        await work.execute("UPDATE alembic_version SET version_num = 'tomorrow'")
    finding = (await found(patient, POSTGRES))["postgres.schema"]
    assert (finding.status, finding.remedy) == ("wrong", "Run the newer Ragline that migrated it.")


async def test_what_waits_and_who_works(patient: Patient, database: Database) -> None:
    async with database.transaction() as work:
        await work.execute(
            "INSERT INTO outbox_unpublished (id, created_at) VALUES ($1, now() - interval '1 hour')", uuid4()
        )
        await work.execute(
            "INSERT INTO completions (id, tenant_id, user_id, session_id, message_id, parent_id, requested_by,"
            " correlation_id, status, queue_no, generation, lease_until)"
            " VALUES ($1, $1, $1, $1, $1, $1, $1, $1, 'in_progress', 1, '{}', now() - interval '1 minute')",
            uuid4(),
        )
    slot = Slot(database, "worker")
    await slot.acquire()
    try:
        async with single_active(database, "relay"):
            findings = await found(patient, POSTGRES)
    finally:
        await slot.release()
    assert (findings["relay"].status, findings["workers"]) == ("ok", Finding("workers", "ok", "1 are running"))
    assert findings["outbox"].status == "wrong"
    assert findings["outbox"].found.startswith("1 events are not published, the oldest 36")
    assert findings["leases"].status == "warning"
    assert findings["leases"].found.startswith("the leases of 1 answers and 0 documents ran out")


async def test_a_dead_letter_that_nobody_has_seen_to(patient: Patient, producer: LogProducer) -> None:
    def n_open(finding: Finding) -> int:
        return 0 if finding.status == "ok" else int(finding.found.split()[0])

    before = (await found(patient, LETTERS))["dead_letters"]
    headers = [("ce_type", b"ragline.usage.recorded.v1"), ("dlq_reason", b"invalid"), ("dlq_partition", b"0")]
    await all_acked([await producer.send_raw(SPARE, b"k", b"{}", headers)])
    after = (await found(patient, LETTERS))["dead_letters"]
    assert after.status == "warning"
    assert n_open(after) == n_open(before) + 1
    assert "ragline dlq" in after.remedy


async def test_records_that_nobody_reads(patient: Patient, servers: EmbeddedServers) -> None:
    late = replace(patient, wall_s=lambda: time.time() + 3600)
    producer = LogProducer(servers.kafka_bootstrap, client_id="test")
    await producer.start()
    try:
        await all_acked([await producer.send_raw(USAGE_EVENTS.name, b"k", b"{}", [])])
    finally:
        await producer.stop()
    findings = await asyncio.gather(found(patient, KAFKA), found(late, KAFKA))
    assert "inspector-usage.events.v1: " in findings[0]["kafka.lag"].found
    assert findings[1]["kafka.lag"].status == "warning"
    assert "ragline worker" in findings[1]["kafka.lag"].remedy
