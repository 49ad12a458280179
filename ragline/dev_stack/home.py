"""The home folder: who uses it, its secrets, and the ports that its servers keep."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from ragline.dev_stack.errors import DevStackError

_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000  # below the range that systems hand out to clients


@dataclass(frozen=True)
class Secrets:
    """Made once for a home and kept in its `secrets.json` (0600)."""

    postgres_password: str
    admin_email: str
    admin_password: str
    api_key: str


def load_secrets(home: Path) -> Secrets:
    """The home's secrets; what is missing is made and kept. Raises: DevStackError if the file is not readable JSON."""
    path = home / "secrets.json"
    made = {
        "postgres_password": secrets.token_hex(24),
        "admin_email": "admin@example.com",
        "admin_password": secrets.token_urlsafe(18),
        "api_key": secrets.token_hex(32),
    }
    try:
        kept = json.loads(path.read_text())
        values = made | {field.name: str(kept[field.name]) for field in fields(Secrets) if kept.get(field.name)}
    except FileNotFoundError:
        kept, values = None, made
    except (OSError, ValueError, AttributeError) as error:
        raise DevStackError(f"{path} cannot be read ({error}); mend or delete it") from None
    if kept != values:
        write_private(path, json.dumps(values, indent=2))
    return Secrets(**values)


def load_ports(home: Path, names: tuple[str, ...], *, patience_s: float = 1.0) -> dict[str, int]:
    """A free loopback port for each name: the one kept in the home, or a new one if that is taken."""
    path = home / "ports.json"
    try:
        kept = {str(name): int(port) for name, port in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        kept = {}
    ports = dict(kept)
    for name in names:
        if name not in kept or not wait_until_free(kept[name], patience_s=patience_s):
            ports[name] = free_port(taken=set(ports.values()))
    if ports != kept:
        write_private(path, json.dumps(ports))
    return {name: ports[name] for name in names}


def free_port(*, taken: set[int]) -> int:
    """A loopback port that nobody listens on. Raises: DevStackError if none is found."""
    for _ in range(500):
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        if port not in taken and is_free(port):
            return port
    raise DevStackError(f"no free port between {_LOWEST_PORT} and {_HIGHEST_PORT} on 127.0.0.1; stop something")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True if a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def wait_until_free(port: int, *, patience_s: float, host: str = "127.0.0.1") -> bool:
    """True once the port is free; a stack that was just killed may hold it for a moment."""
    deadline = time.monotonic() + patience_s
    while not is_free(port, host):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home for this process. Raises: DevStackError if another process holds it or it cannot be made."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "lock").open("a+")
    except OSError as error:
        raise DevStackError(f"home {home} cannot be used ({error.strerror}); choose another with --home") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DevStackError(
                f"home {home} is in use by process {holder}; stop that `ragline dev` or choose another with --home"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_private(path: Path, text: str) -> None:
    """Replace the file atomically; only its owner may read it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
