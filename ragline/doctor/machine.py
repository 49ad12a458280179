"""This machine: versions, how many files a process may open, who may read what is secret; and settings that collide."""

from __future__ import annotations

import platform
import resource
from collections.abc import AsyncGenerator, Iterator
from importlib import metadata

from ragline import __version__
from ragline.dev_stack.ready_file import IN_HOME
from ragline.doctor.findings import Finding, Patient
from ragline.doctor.redaction import written_secrets
from ragline.file_limit import RESERVED
from ragline.settings import Settings, setting_sources

LIBRARIES = ("aiokafka", "faststream", "asyncpg", "sqlalchemy", "alembic", "lancedb", "aioboto3", "litellm", "pydantic")
SECRET_FILES = ("secrets.json", IN_HOME)
_OTHERS_MAY = 0o077


async def machine(patient: Patient) -> AsyncGenerator[Finding, None]:
    """What can be told without asking anybody."""
    yield _versions()
    yield _open_files(patient.settings)
    yield _secret_files(patient.settings)
    yield _contradictions(patient.settings)


def versions() -> dict[str, str]:
    """Ragline's, Python's, and those of the libraries that matter."""
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    return {"ragline": __version__, "python": platform.python_version(), "platform": platform.platform(), **libraries}


def _versions() -> Finding:
    return Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions().items()))


def _open_files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.edge.max_streams + RESERVED
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("open_files", "ok", f"{'any number' if hard == resource.RLIM_INFINITY else hard} a process")
    found = f"{hard} a process, and {settings.edge.max_streams} streams need {wanted}"
    remedy = (
        f"Raise the limit (`ulimit -Hn {wanted}`, LimitNOFILE= of a systemd unit), or lower RAGLINE_EDGE__MAX_STREAMS."
    )
    return Finding("open_files", "warning", found, remedy)


def _secret_files(settings: Settings) -> Finding:
    toml = setting_sources().toml_file
    files = [settings.home / name for name in SECRET_FILES]
    if toml is not None and any(secret in toml.read_text() for secret in written_secrets(settings)):
        files.append(toml)
    there = [path for path in files if path.is_file()]
    if not there:
        return Finding("secret_files", "ok", "there are none")
    readable = [path for path in there if path.stat().st_mode & _OTHERS_MAY]
    if readable:
        names = " ".join(map(str, readable))
        return Finding("secret_files", "wrong", f"others may read {names}", f"Run `chmod 600 {names}`.")
    return Finding("secret_files", "ok", ", ".join(f"{path.name}: owner only" for path in there))


def _contradictions(settings: Settings) -> Finding:
    wrong = list(_wrong(settings))
    odd = list(_odd(settings))
    if not wrong and not odd:
        return Finding("settings", "ok", "none contradicts another")
    found, remedies = zip(*(wrong + odd), strict=True)
    return Finding("settings", "wrong" if wrong else "warning", "; ".join(found), " ".join(remedies))


def _wrong(settings: Settings) -> Iterator[tuple[str, str]]:
    worker = settings.worker
    if worker.checkpoint_s >= worker.lease_s:
        yield (
            f"worker.checkpoint_s ({worker.checkpoint_s:g}) renews leases of {worker.lease_s:g} s too late",
            "Set RAGLINE_WORKER__CHECKPOINT_S to a third of RAGLINE_WORKER__LEASE_S.",
        )
    for n, model in enumerate(settings.models):
        if model.max_output_tokens >= model.context_tokens:
            yield (
                f"models.{n}: max_output_tokens {model.max_output_tokens} of context_tokens {model.context_tokens}",
                f"Set models.{n}.context_tokens to the size of the model's window.",
            )


def _odd(settings: Settings) -> Iterator[tuple[str, str]]:
    on_s3 = {name: url.startswith("s3://") for name, url in _stores(settings).items()}
    if len(set(on_s3.values())) > 1:
        local = next(name for name, is_s3 in on_s3.items() if not is_s3)
        yield (
            f"{local} is a folder and the other store is on S3: every edge and worker needs this folder",
            f"Set RAGLINE_{local.upper()} to s3://bucket/prefix too, unless all run on this machine.",
        )
    if settings.s3_endpoint is not None and not any(on_s3.values()):
        yield (
            "s3_endpoint is set, and no store is on S3",
            "Set RAGLINE_BLOBS and RAGLINE_VECTORS to s3://bucket/prefix.",
        )
    if settings.s3_public_endpoint is not None and not on_s3["blobs"]:
        yield (
            "s3_public_endpoint is set, and blobs is no bucket",
            "Unset RAGLINE_S3_PUBLIC_ENDPOINT, or set RAGLINE_BLOBS.",
        )


def _stores(settings: Settings) -> dict[str, str]:
    return {"blobs": settings.blobs_url, "vectors": settings.vectors_url}
