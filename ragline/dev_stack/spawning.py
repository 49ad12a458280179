"""Starting, watching and ending the stack's processes: no shell, no wrapper, no orphan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragline.dev_stack.watchdog import Watchdog

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 20 * 1024 * 1024
_POLL_S = 0.05


@dataclass(frozen=True)
class User:
    """The system user that a child runs as."""

    uid: int
    gid: int


@dataclass
class Child:
    """One running (or ended) process; `pid` is the program itself, never a wrapper."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_offset: int
    watchdog: Watchdog
    started_at: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group and session."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """False once the process has ended and is reaped."""
        if self.process.returncode is None and _has_ended(self.process):
            self.watchdog.forget(self.pid)
        return self.process.returncode is None

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at

    def send(self, number: int) -> None:
        """Send a signal to the process; nothing happens if it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def feed(self, text: str) -> None:
        """All of the process's input (at most 4 KiB, so that a process that does not read cannot block this one)."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin:
                self.process.stdin.write(text.encode())

    async def exited(self) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        if self.alive and hasattr(os, "pidfd_open"):
            await _pidfd_readable(self.pid)
        while self.alive:  # noqa: ASYNC110 - nobody tells of a process's end where there are no pidfds
            await asyncio.sleep(_POLL_S)
        return int(self.process.returncode)

    async def stop(self, number: int = signal.SIGTERM, *, timeout_s: float = 5.0) -> None:
        """Ask for the end, and force it after `timeout_s`. Holds after: the process and its group are gone."""
        self.send(number)
        try:
            async with asyncio.timeout(timeout_s):
                await self.exited()
        except TimeoutError:
            self.kill_group()
            await self.exited()

    def kill_group(self) -> None:
        """SIGKILL for the process and for what it started in its group."""
        if self.process.returncode is not None:  # reaped: the number may be another's, and the group is dead
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end_now(self) -> None:
        """SIGKILL, and wait for the process. Holds after: the process and its group are gone."""
        self.kill_group()
        self.process.wait()
        self.watchdog.forget(self.pid)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def tail(self, n_lines: int = 12) -> str:
        """The last lines that this process wrote."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(self.log_offset, file.tell() - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-n_lines:])
        return ""


class Spawner:
    """Starts processes that are bound to this one. For the main thread only: the kernel's bond is to the thread."""

    def __init__(self) -> None:
        self._watchdog = Watchdog()

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: User | None = None,
        fed: bool = False,
    ) -> Child:
        """Start `command` (absolute program path) in a session of its own, with its output appended to `log`.

        With `fed`, its input is what `Child.feed` gives it; otherwise it has none.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_name(log.name + ".1"))
        uid, gid = (user.uid, user.gid) if user else (-1, -1)
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(uid), str(gid)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*launcher, *map(str, command)],
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
            self._watchdog.watch(process.pid)
            return Child(name, process, log, output.tell(), self._watchdog)

    def close(self) -> None:
        """Nothing that was started here is alive after this."""
        self._watchdog.close()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Reap the process if it has ended, after its group is killed: while it is a zombie, the number is its own."""
    if hasattr(os, "waitid") and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    if not hasattr(os, "waitid") and process.poll() is None:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.poll() is not None


async def _pidfd_readable(pid: int) -> None:
    """Returns when the (not yet reaped) child `pid` has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
