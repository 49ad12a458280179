"""Temporary copies of files that are being read, and what dead workers left of theirs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "ragline-document-"
STALE_AFTER_S = 3600.0
"""No reading takes as long: a folder that old belongs to a process that is dead."""


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder of its own for one file; gone when it is left."""
    return tempfile.TemporaryDirectory(prefix=PREFIX)


def remove_stale(*, older_than_s: float = STALE_AFTER_S) -> int:
    """Removes folders of this user that killed processes left behind; how many."""
    n_removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
        except FileNotFoundError:
            continue
        if status.st_uid == os.getuid() and status.st_mtime < time.time() - older_than_s:
            shutil.rmtree(folder, ignore_errors=True)
            n_removed += 1
    return n_removed
