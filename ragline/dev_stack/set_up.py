"""`make setup`: `.venv` holds what `requirements.lock` names, and `ragline` runs from it.

Runs on the system's Python, before anything is installed: only the standard library. An interrupted set-up leaves a
mark, and the next one begins anew; two at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".set-up-done"
UNFINISHED = VENV / ".set-up-unfinished"


def key() -> str:
    """Changes when the set-up must be done again: other requirements, or the folder was moved."""
    inputs = [(ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*inputs, os.fsencode(ROOT)])).hexdigest()


def is_done() -> bool:
    """True if the set-up was finished for this very key and its Python still starts."""
    return STAMP.is_file() and STAMP.read_text() == key() and _runs("pass")


def set_up() -> None:
    """Make it so. Raises: CalledProcessError if the installer fails."""
    STAMP.unlink(missing_ok=True)
    if UNFINISHED.exists() or not _runs("import pip, sys; sys.exit(sys.version_info < (3, 11))"):
        print(f"creating {VENV.name} with Python {sys.version.split()[0]}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir()
        UNFINISHED.touch()
        venv.create(VENV, with_pip=True, symlinks=True)
    UNFINISHED.touch()
    print("installing what requirements.lock names (some minutes the first time)", flush=True)
    # the lock is complete: without a resolver there is nothing that an older pip can resolve otherwise
    _pip("--no-deps", "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    _pip("--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    STAMP.write_text(key())
    UNFINISHED.unlink()


def main() -> None:
    """Set up unless it is done."""
    if is_done():
        return
    folder = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        if not is_done():
            set_up()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: the set-up failed (pip ended with code {error.returncode}); mend it and run make again")
    except KeyboardInterrupt:
        sys.exit("error: the set-up was interrupted; run make again")


def _pip(*arguments: str) -> None:
    subprocess.run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *arguments], check=True)


def _runs(code: str) -> bool:
    try:
        return subprocess.run([PYTHON, "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    main()
