"""What the stack hands on of its own environment. Settings are read in `ragline/settings.py` alone."""

from __future__ import annotations

import os
from pathlib import Path


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with `changes` on top."""
    return {**os.environ, **changes}


def cache_folder() -> Path:
    """Where downloads are shared by all homes of a user (XDG Base Directory Specification)."""
    configured = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (configured if configured.is_absolute() else Path("~/.cache").expanduser()) / "ragline"


def announce_home(home: Path) -> None:
    """Make `home` the setting of this process and its children, as `RAGLINE_HOME` would."""
    os.environ["RAGLINE_HOME"] = str(home)
