"""Running PostgreSQL under a root account, which it refuses: choose another user and let it reach its files."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from ragline.dev_stack.errors import DevStackError
from ragline.dev_stack.spawning import User

CANDIDATES = ("nobody", "daemon", "postgres")


def user_for(data: Path) -> User | None:
    """Whom PostgreSQL runs as: None (the caller's own user) unless that is root; the owner of existing data stays.

    Raises: DevStackError if the system has no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if not data.exists() or data.stat().st_uid in {0, entry.pw_uid}:
            return User(entry.pw_uid, entry.pw_gid)
    owner = pwd.getpwuid(data.stat().st_uid) if data.exists() else None
    if owner is None:
        raise DevStackError(f"PostgreSQL does not run as root and there is no user {' or '.join(CANDIDATES)}; add one")
    return User(owner.pw_uid, owner.pw_gid)


def let_others_pass(path: Path) -> None:
    """Add search permission for others to the folders above `path` that lack it."""
    for folder in path.resolve().parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
