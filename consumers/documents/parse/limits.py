"""How a parser binds itself to its limits and to its parent's life."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from consumers.documents.parse.document import ParseLimits

_PR_SET_PDEATHSIG = 1
_NICENESS = 5
_MAPPED_LIBRARIES_BYTES = 512 * 1024 * 1024


def bind(limits: ParseLimits, *, parent_pid: int) -> None:
    """Holds this process to `limits` and to its parent's life; it can neither write files nor dump core.

    Where the system knows no limit on memory (macOS), wall and CPU time still hold.
    """
    die_with(parent_pid)
    os.nice(_NICENESS)
    cpu_s = math.ceil(limits.cpu_s)
    memory_bytes = _mapped_bytes() + limits.memory_bytes
    _set(resource.RLIMIT_CORE, 0, 0)
    _set(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _set(resource.RLIMIT_FSIZE, 0, 0)
    _set(resource.RLIMIT_DATA, memory_bytes, memory_bytes)
    address_space = memory_bytes + _MAPPED_LIBRARIES_BYTES
    _set(resource.RLIMIT_AS, address_space, address_space)


def _mapped_bytes() -> int:
    """What this process has of heap and anonymous mappings, shared with the server that it is forked from."""
    with contextlib.suppress(FileNotFoundError):  # no Linux
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    return 0


def _set(kind: int, soft: int, hard: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, hard))


def die_with(parent_pid: int) -> None:
    """This process ends when its parent does, or its standard input where the system has no better way."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)


def _exit_at_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)
