"""The real program, as a user starts it: `ragline dev` in a temporary home, with models of the benchmark's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from bench.children import Children
from ragline.dev_stack.spawning import Child

SLOTS = 600
"""Answers at once in the one worker: *relay* has 500 streams, the default is 200."""

MODELS = """
[[models]]
name = "deterministic"
model = "openai/test"
api_base = "{deterministic}"
adapter = "direct"

[[models]]
name = "stamping"
model = "openai/stamp"
api_base = "{stamping}"
adapter = "direct"

[worker]
completion_slots = {slots}
"""


@dataclass(frozen=True)
class Stack:
    """A running `ragline dev`, and the provider's address for direct calls."""

    children: Children
    ready: dict[str, Any]
    deterministic: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the edge."""
        parts = urlsplit(self.ready["base_url"])
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def api_key(self) -> str:
        """The first key, of the tenant without limits."""
        return str(self.ready["api_key"])

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port`."""
        return str(self.ready["kafka_bootstrap"])

    def pids(self, *roles: str) -> list[int]:
        """The processes of these roles."""
        return [int(process["pid"]) for process in self.ready["processes"] if process["role"] in roles]

    @contextmanager
    def paused(self, *roles: str) -> Iterator[None]:
        """These processes stand still for as long as the block runs."""
        pids = self.pids(*roles)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def client(self, **more: object) -> dict[str, object]:
        """A question for `bench.load_client`."""
        host, port = self.address
        return {"host": host, "port": port, "key": self.api_key, **more}


@asynccontextmanager
async def dev_stack(*, slots: int = SLOTS, env: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    """Everything answers for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="ragline-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        children = Children(folder)
        try:
            deterministic = children.start("tests.provider_server")
            stamping = children.start("bench.stamping_provider")
            url = await _first_line(deterministic)
            stamping_url = (await children.told(stamping))["url"]
            home = folder / "home"
            home.mkdir()
            models = MODELS.format(deterministic=url, stamping=stamping_url, slots=slots)
            (home / "ragline.toml").write_text(models)
            _, ready = await start_dev(children, home, folder / "ready.json", env or {})
            yield Stack(children, ready, url)
        finally:
            children.close()


async def _first_line(child: Any) -> str:
    async with asyncio.timeout(30):
        while not (lines := child.tail(1)):  # noqa: ASYNC110 - a log file tells nobody
            await asyncio.sleep(0.02)
    return str(lines.splitlines()[0])


async def start_dev(
    children: Children, home: Path, path: Path, env: Mapping[str, str] = MappingProxyType({})
) -> tuple[Child, dict[str, Any]]:
    """Starts `ragline dev`; it and what its ready file says. Raises: RuntimeError."""
    arguments = ("dev", "--home", str(home), "--port", "0", "--ready-file", str(path))
    dev = children.start("ragline.cli.main", *arguments, env={"RAGLINE_LOG_LEVEL": "warning", **(env or {})})
    async with asyncio.timeout(180):
        while (found := _read(path)) is None:
            if not dev.alive:
                raise RuntimeError(f"ragline dev ended: {dev.tail(20)}")
            await asyncio.sleep(0.05)
    return dev, found


def _read(path: Path) -> dict[str, Any] | None:
    """The ready file, once it is there."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found
