"""Ragline's own processes as the supervisor runs them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ragline.dev_stack.errors import ChildDiedError
from ragline.dev_stack.server import log_file
from ragline.dev_stack.spawning import Child, Spawner

_HEALTH_EVERY_S = 0.05


def edge_command(port: int) -> list[str]:
    """One HTTP edge on `port`."""
    return [sys.executable, "-m", "ragline.cli.main", "edge", "--port", str(port)]


def worker_command(touch: Path) -> list[str]:
    """One worker with all consumers; it creates the file `touch` once it consumes."""
    return [sys.executable, "-m", "ragline.cli.main", "worker", "--ready-touch", str(touch)]


def relay_command(touch: Path) -> list[str]:
    """The outbox sweeper; it creates the file `touch` once it sweeps (or waits for the active one)."""
    return [sys.executable, "-m", "ragline.cli.main", "relay", "--ready-touch", str(touch)]


@dataclass(frozen=True)
class Commands:
    """How each process is started; tests put small programs here."""

    edge: Callable[[int], Sequence[str]] = edge_command
    worker: Callable[[Path], Sequence[str]] = worker_command
    relay: Callable[[Path], Sequence[str]] = relay_command
    bootstrap: Sequence[str] = (sys.executable, "-m", "ragline.dev_stack.bootstrap")


class Role:
    """An edge (is ready when its health says so) or another role (ready when it touched its file)."""

    stop_signal: int = signal.SIGTERM

    def __init__(
        self,
        role: str,
        number: int,
        command: Sequence[str],
        *,
        home: Path,
        env: Mapping[str, str],
        spawner: Spawner,
        url: str | None = None,
        touch: Path | None = None,
    ) -> None:
        self.role = role
        self.name = f"{role}-{number}"
        self.url = url
        self._command = command
        self._home = home
        self._env = env
        self._spawner = spawner
        self._touch = touch

    def spawn(self) -> Child:
        """Start the process; an earlier one's sign of readiness is removed."""
        if self._touch is not None:
            self._touch.parent.mkdir(parents=True, exist_ok=True)
            self._touch.unlink(missing_ok=True)
        return self._spawner.spawn(self.name, self._command, log=log_file(self._home, self.name), env=self._env)

    async def wait_ready(self, child: Child) -> None:
        """Returns when the process serves. Raises: ChildDiedError if it ends first."""
        while child.alive:
            if await self._is_ready():
                return
            await asyncio.sleep(_HEALTH_EVERY_S)
        code = await child.exited()
        raise ChildDiedError(f"{self.name} ended with code {code} before it was ready; see {child.log}", child.tail())

    async def _is_ready(self) -> bool:
        if self._touch is not None:
            return self._touch.exists()
        return self.url is None or await answers_200(f"{self.url}/health/ready")


async def answers_200(url: str, *, timeout_s: float = 2.0) -> bool:
    """True if a GET of the `http://` address is answered with status 200."""
    parts = urlsplit(url)
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            status_line = await reader.readline()
            return status_line.split()[1:2] == [b"200"]
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()
