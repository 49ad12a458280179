"""The collector of traces: one that takes them, one that is gone."""

from __future__ import annotations

from ragline.doctor.collector import collector
from ragline.doctor.findings import Finding, Group, Patient, examine
from ragline.settings import Settings, TelemetrySettings
from tests.collector import collecting


async def found(endpoint: str) -> Finding:
    patient = Patient(Settings(telemetry=TelemetrySettings(otlp_endpoint=endpoint)))
    [finding] = await examine(patient, [Group("collector", collector, "")])
    return finding


async def test_a_collector_well_and_gone() -> None:
    with collecting() as running:
        assert (await found(running.url)).status == "ok"
    gone = await found(running.url)
    assert (gone.status, "RAGLINE_TELEMETRY__OTLP_ENDPOINT" in gone.remedy) == ("warning", True)
    assert (await found("")).status == "skipped"
