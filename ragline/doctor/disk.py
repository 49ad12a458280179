"""Disks: how much is free where this installation keeps something on this machine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

from ragline.doctor.findings import Finding, Patient

FULL_BYTES = 512 << 20
LOW_BYTES = 5 << 30


async def disk(patient: Patient) -> AsyncGenerator[Finding, None]:
    """Home, and blobs and vectors where they are folders."""
    settings = patient.settings
    yield free_space("disk.home", settings.home)
    for name, url in (("disk.blobs", settings.blobs_url), ("disk.vectors", settings.vectors_url)):
        if url.startswith("s3://"):
            yield Finding(name, "skipped", f"{url} is not on this machine")
        else:
            yield free_space(name, Path(url))


def free_space(name: str, folder: Path, *, full_bytes: int = FULL_BYTES, low_bytes: int = LOW_BYTES) -> Finding:
    """How much is free where `folder` is, or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}: {free / (1 << 30):.1f} GiB free"
    if free < full_bytes:
        return Finding(
            name, "wrong", found, "Free some space at once: uploads are refused and Kafka stops when it is full."
        )
    if free < low_bytes:
        return Finding(name, "warning", found, "Free some space, or move the folder to a larger disk.")
    return Finding(name, "ok", found)
