"""`python in_image.py WRITABLE HIDDEN PROGRAM ARGUMENT…`: a program as the image's container runs it.

It writes nowhere but below the folders of WRITABLE (`:` between them) and /dev, as with a read-only root, and finds
none of the modules that the file HIDDEN lists: those that the image does not hold. The first needs Linux with Landlock
(5.13); elsewhere it may write.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_ASK_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_WRITES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
_SINCE = {2: 1 << 13, 3: 1 << 14}
"""Moving to another folder and truncating are known to later versions only."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NotInTheImage(MetaPathFinder):
    def __init__(self, modules: set[str]) -> None:
        self._modules = modules

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raises: ModuleNotFoundError for what the image does not hold."""
        if fullname.partition(".")[0] in self._modules:
            raise ModuleNotFoundError(f"{fullname} is not in the image", name=fullname)


def landlock_version() -> int:
    """0 where the system has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def write_only_below(folders: Sequence[Path]) -> None:
    """This process and its children write nowhere else from now on. Raises: OSError."""
    version = landlock_version()
    if version == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    access = _WRITES | sum(bit for since, bit in _SINCE.items() if version >= since)
    handled = _Ruleset(access)
    ruleset = must(libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0))
    for folder in folders:
        descriptor = os.open(folder, os.O_PATH)
        rule = _PathBeneath(access, descriptor)
        must(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
        os.close(descriptor)
    must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    must(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def main(writable: str, hidden: str, program: str, *arguments: str) -> None:
    """Becomes the program."""
    modules = set(Path(hidden).read_text().split())
    write_only_below([Path("/dev"), *map(Path, writable.split(":"))])
    if program == "python":
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.meta_path.insert(0, _NotInTheImage(modules))
    sys.argv = [program, *arguments]
    from ragline.cli.main import main as ragline

    ragline()


if __name__ == "__main__":
    main(*sys.argv[1:])
