"""Becomes another program that dies with its parent: `python -I -S launch.py PARENT_PID UID GID COMMAND…`.

Runs in the new process, before the program, so that no Python code runs between fork and exec in a parent that may have
threads. The process id stays the same. UID -1 keeps the user. Only the standard library, and little of it: it costs
every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _change_user(uid: int, gid: int) -> None:
    """Become `uid`, keeping only what is needed to walk through private folders (capabilities(7), "Ambient")."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # otherwise access(2), which PostgreSQL asks about its binaries, looks away from the kept capabilities
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is None:
        return
    for wanted in ((CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH), (CAP_DAC_OVERRIDE,)):
        bits = sum(1 << capability for capability in wanted)
        data = (_CapData * 2)(_CapData(bits, bits, bits), _CapData(0, 0, 0))
        if libc.capset(ctypes.byref(_CapHeader(LINUX_CAPABILITY_VERSION_3, 0)), data) == 0:
            for capability in wanted:
                libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
            return


def _die_with(parent_pid: int) -> None:
    """Linux: SIGKILL when the parent's spawning thread ends. After the change of user, which would clear it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def main() -> None:
    """Change the user if asked, bind the life to the parent's, and become the command."""
    parent_pid, uid, gid = (int(argument) for argument in sys.argv[1:4])
    command = sys.argv[4:]
    if uid >= 0:
        _change_user(uid, gid)
    _die_with(parent_pid)
    os.execv(command[0], command)  # noqa: S606 - the point of this program


if __name__ == "__main__":
    main()
