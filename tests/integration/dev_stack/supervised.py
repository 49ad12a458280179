"""A supervised stack of stand-in programs, and how to look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

STAND_IN = Path(__file__).with_name("stand_in.py")


def eventually(what: Callable[[], Any], *, within_s: float = 10.0) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Stack:
    """One supervised stack in a session of its own, so that its whole group can be signalled."""

    def __init__(self, home: Path, *options: str, listening: bool = True) -> None:
        self.home = home
        self.ready_file = home.parent / "ready.json"
        self.output = home.parent / "output.txt"
        self.output.touch()
        reader, nobody_reads = os.pipe()
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(STAND_IN), "supervise", str(home), str(self.ready_file), *options],
                start_new_session=True,
                stdout=output if listening else nobody_reads,
                stderr=output if listening else nobody_reads,
            )
        os.close(reader)
        os.close(nobody_reads)
        self.seen: set[int] = set()

    def ready(self, *, within_s: float = 60.0) -> dict[str, Any]:
        eventually(lambda: self.ready_file.exists() or self.process.poll() is not None, within_s=within_s)
        assert self.process.poll() is None, self.output.read_text()
        return self.report()

    def report(self) -> dict[str, Any]:
        self.seen |= {p.pid for p in psutil.Process(self.process.pid).children(recursive=True)}
        report: dict[str, Any] = json.loads(self.ready_file.read_text())
        return report

    def pid(self, role: str) -> int | None:
        return next((int(p["pid"]) for p in self.report()["processes"] if p["role"] == role), None)

    def left_over(self) -> list[int]:
        return [pid for pid in self.seen if alive(pid)]

    def ends(self, *, within_s: float = 10.0) -> int:
        return self.process.wait(timeout=within_s)
