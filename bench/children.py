"""The benchmark's processes: each is bound to this one, reads one JSON object from its command line, and tells JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragline.dev_stack.environment import child_environment
from ragline.dev_stack.spawning import Child, Spawner


class Children:
    """Starts the benchmark's own programs; all of them end with `close`, and with this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spawner = Spawner()
        self._children: list[Child] = []

    def start(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
        """`python -m module arguments…`, its output in a log of its own."""
        log = self._folder / f"{len(self._children)}-{module}.log"
        command = [sys.executable, "-m", module, *arguments]
        child = self._spawner.spawn(module, command, log=log, env=child_environment(**(env or {})))
        self._children.append(child)
        return child

    async def told(self, child: Child, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """The JSON object that the child told last, once it has told one. Raises: RuntimeError if it ended without."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            alive = child.alive
            lines = [line for line in child.tail(50).splitlines() if line.startswith("{")]
            if lines and lines[-1].endswith("}"):
                found: dict[str, Any] = json.loads(lines[-1])
                return found
            if not alive:
                break
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{child.name} told nothing: {child.tail(20)}")

    async def answer(self, module: str, asked: Mapping[str, object], *, timeout_s: float = 120.0) -> dict[str, Any]:
        """Runs a program to its end; what it told in the file `answer` of its question."""
        path = self._folder / f"{time.monotonic_ns()}.json"
        child = self.start(module, json.dumps({**asked, "answer": str(path)}))
        try:
            async with asyncio.timeout(timeout_s):
                code = await child.exited()
        except TimeoutError:
            child.end_now()
            raise RuntimeError(f"{module} did not end in {timeout_s} s: {child.tail(20)}") from None
        if code != 0:
            raise RuntimeError(f"{module} failed: {child.tail(20)}")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def close(self) -> None:
        """Nothing that was started here is alive after this."""
        for child in self._children:
            if child.alive:
                child.end_now()
        self._spawner.close()


def asked() -> dict[str, Any]:
    """In a child: the question."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def answer(question: Mapping[str, Any], told: Mapping[str, object]) -> None:
    """In a child: the answer."""
    Path(question["answer"]).write_text(json.dumps(told))
