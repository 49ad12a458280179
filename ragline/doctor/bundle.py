"""The file for a bug report: what the doctor found, settings, versions, topics and logs, without secrets."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ragline.doctor.findings import Finding, Patient
from ragline.doctor.logs import log_tails
from ragline.doctor.machine import versions
from ragline.doctor.redaction import Redactor
from ragline.settings import setting_sources
from ragline.settings_report import report
from schemas.errors import Retry
from storage.log.cluster import cluster_state

FOLDER = "ragline-doctor"


async def write_bundle(path: Path, patient: Patient, findings: Sequence[Finding], redactor: Redactor) -> None:
    """Writes a tar.gz that only its owner may read, replacing what was there. Raises: OSError."""
    texts = {
        "doctor.json": _json(redactor.value([asdict(one) for one in findings])),
        "settings.json": _json(redactor.value(_settings(patient))),
        "versions.json": _json(redactor.value(_versions())),
        "topics.json": _json(redactor.value(await _topics(patient))),
    }
    texts |= {f"logs/{name}": text for name, text in log_tails(patient.settings.home, redactor)}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for name, text in texts.items():
                _add(archive, f"{FOLDER}/{name}", text.encode(), at_s=patient.wall_s())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, data: bytes, *, at_s: float) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(at_s)
    archive.addfile(entry, io.BytesIO(data))


def _settings(patient: Patient) -> dict[str, Any]:
    rows = report(patient.settings, setting_sources())
    return {row.name: {"value": row.value, "source": row.source} for row in rows}


def _versions() -> dict[str, Any]:
    return versions() | {"installed": sorted(f"{one.name}=={one.version}" for one in metadata.distributions())}


async def _topics(patient: Patient) -> dict[str, Any]:
    try:
        return asdict(await cluster_state(patient.settings.kafka_bootstrap))
    except Retry as away:
        return {"error": str(away)}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
