"""The real program as a user starts it: `ragline dev` in a folder of its own, and `ragline …` commands beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

START_WITHIN_S = 150.0  # the first one of a machine downloads Kafka
STOP_WITHIN_S = 10.0
READY_PATH = "asked-for-ready.json"
RAGLINE = (sys.executable, "-m", "ragline.cli.main")


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without Ragline's settings, so that a developer's own do not disturb."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAGLINE_")}
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "120"} | dict(changes or {})


def run_ragline(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """A `ragline` command, run to its end."""
    command = [*RAGLINE, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(env), capture_output=True, text=True, timeout=timeout_s, check=False
    )


def eventually(what: Callable[[], Any], *, within_s: float, why: Callable[[], str] = lambda: "") -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"did not become true within {within_s} s. {why()}"
        time.sleep(0.02)
    return value


@dataclass(frozen=True)
class Start:
    """How a start went: `took_s`, the CPU that it used, and the share of the machine that others used meanwhile."""

    took_s: float
    cpu_s: float
    others: float


@dataclass
class DevStack:
    """One `ragline dev`. Its home is `folder/.ragline`, so that plain commands run in `folder` find it."""

    folder: Path
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = (*RAGLINE, "dev", "--port", "0", "--ready-file", READY_PATH)
    ready_path: str = READY_PATH
    ends_with: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        self.ready_file = self.folder / self.ready_path
        self.output = self.folder / "output.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    @property
    def home(self) -> Path:
        """Where its data is."""
        return self.folder / ".ragline"

    def start(self) -> Start:
        """Starts it and waits until everything answers."""
        began, busy_s = time.monotonic(), _busy_s()
        with self.output.open("ab") as output:
            self._process = process = subprocess.Popen(
                [*self.command, *self.options],
                cwd=self.folder,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(
            lambda: self.ready_file.exists() or process.poll() is not None, within_s=START_WITHIN_S, why=self.log
        )
        assert process.poll() is None, self.log()
        took_s, busy_s = time.monotonic() - began, _busy_s() - busy_s
        self.report()
        cpu_s = sum(_cpu_s(p) for p in [psutil.Process(process.pid), *self._seen])
        return Start(took_s, cpu_s, others=(busy_s - cpu_s) / (took_s * (psutil.cpu_count() or 1)))

    def report(self) -> dict[str, Any]:
        """The ready file as it is now."""
        if self._process is not None:
            self._seen |= set(psutil.Process(self._process.pid).children(recursive=True))
        report: dict[str, Any] = json.loads(self.ready_file.read_text())
        return report

    @property
    def base_url(self) -> str:
        """The first edge's address."""
        return str(self.report()["base_url"])

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request."""
        return {"Authorization": f"Bearer {self.report()['api_key']}"}

    def pid(self, role: str) -> int:
        """The first process of the role."""
        return next(int(p["pid"]) for p in self.report()["processes"] if p["role"] == role)

    def kill(self, role: str) -> None:
        """kill -9, and wait until another one is ready in its place."""
        killed = self.pid(role)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: self._other(role, killed), within_s=10.0, why=self.log)

    def _other(self, role: str, killed: int) -> bool:
        return any(p["role"] == role and p["pid"] != killed for p in self.report()["processes"])

    def stop(self) -> None:
        """SIGTERM. Holds after: nothing that ran is alive."""
        if self._process is None:
            return
        self.report()
        os.killpg(self._process.pid, signal.SIGTERM)  # all of the group, as a terminal and `make` do
        code = self._process.wait(timeout=STOP_WITHIN_S)
        left = self._left_over()
        self._process = None
        assert code in self.ends_with, self.log()
        assert left == [], self.log()

    def abandon(self) -> None:
        """Ends everything, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for process in self._left_over():
            process.kill()

    def _left_over(self) -> list[psutil.Process]:
        return [p for p in self._seen if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def log(self) -> str:
        """What it said, and the ends of its processes' logs."""
        logs = sorted((self.home / "logs").glob("*.log")) if self.home.is_dir() else []
        tails = [f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]) for log in logs]
        return "\n".join([self.output.read_text(errors="replace")[-3000:], *tails])

    def ragline(self, *arguments: str | Path, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """A command in the same folder, as a user types it there."""
        return run_ragline(*arguments, cwd=self.folder, env=self.env, timeout_s=timeout_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _cpu_s(process: psutil.Process) -> float:
    """The process's own, and that of its children who have ended already."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0))


@contextmanager
def running(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[DevStack]:
    """A stack that stops in order at the end of the block, and is gone whatever happens."""
    stack = DevStack(folder, options, env or {})
    try:
        stack.start()
        yield stack
        stack.stop()
    finally:
        stack.abandon()


@pytest.fixture(scope="session")
def dev_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """One `ragline dev` with the offline answerer and two edges, for all tests that only use it."""
    with running(tmp_path_factory.mktemp("dev"), "--edges", "2") as stack:
        yield stack
