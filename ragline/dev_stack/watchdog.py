"""Kills the children of a supervisor that was itself killed: the pipe from it ends when it ends, on every platform.

On Linux the kernel already ends each child (see `launch.py`); what those children started themselves dies here, with
their process groups. Protocol on stdin, one line each: `+PID` a group to watch, `-PID` a group that has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


class Watchdog:
    """One watching process for all children of this process; started with the first child."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: set[int] = set()

    def watch(self, pid: int) -> None:
        """From now on the group `pid` does not outlive this process."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            for earlier in self._watched:
                self._tell(f"+{earlier}\n")
        self._watched.add(pid)
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The group `pid` has ended; its number may be given to others."""
        self._watched.discard(pid)
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """End the watching process; what it still watches is killed."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line.encode())


def main() -> None:
    """Watch until the pipe ends, then kill what is still watched."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line.startswith("+"):
            watched.add(pid)
        else:
            watched.discard(pid)
    for pid in watched:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
