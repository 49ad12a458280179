"""Every command in README, CONTRIBUTING and docs is run, in a folder that looks like a clone, as a reader would.

`make dev` of the README runs beside them, as it does for the reader. What cannot run inside a test run (`make test` is
this run itself) is handed to `make --dry-run`, so that at least the target and what it calls exist.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Snippet, pages, snippets
from tests.stack import DevStack, environment

pytestmark = pytest.mark.timeout(300)

COPIED = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "schemas"}  # the rest is linked
DRY = ("make dev", "make test", "make lint", "make bench")
SILENT = {
    "make setup",
    "make docs",
    ".venv/bin/python -m tests.docs.pages",
    ".venv/bin/python -m schemas.contracts",
    ".venv/bin/python -m tests.contract.http_api",
}  # there is nothing to do
BACKGROUND = "background"
WRITES = re.compile(r"^mkdir |>>? [\w./-]+$")
"""What makes a folder or a file says nothing."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone, without data."""
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name in COPIED:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        elif path.name not in {".git", ".ragline"} and not path.name.startswith(".coverage"):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def running(clone: Path) -> Iterator[DevStack]:
    """The README's `make dev`, as it stands there; only the ports are free ones."""
    (command,) = [line for page in pages() for s in snippets(page) if s.mark == BACKGROUND for line in s.commands]
    assert command == "make dev"
    stack = DevStack(
        clone,
        command=command.split(),
        env={"RAGLINE_EDGE__PORT": "0", "MAKEFLAGS": ""},  # what `make test` was given is not meant for it
        ready_path=".ragline/ready.json",
        ends_with=(2, -signal.SIGTERM),  # make itself says that it was stopped
    )
    try:
        stack.start()
        yield stack
        stack.stop()
    finally:
        stack.abandon()


def _shell(page: str) -> list[Snippet]:
    return [snippet for snippet in snippets(page) if snippet.language == "sh" and snippet.mark != BACKGROUND]


@pytest.mark.parametrize("page", [page for page in pages() if _shell(page)])
def test_commands(page: str, clone: Path, running: DevStack) -> None:
    for snippet in _shell(page):
        assert snippet.mark == ""
        for command in snippet.commands:
            ended = _run(command, clone)
            assert ended.returncode == 0, f"{page}: {command}\n{ended.stdout}\n{ended.stderr}\n{running.log()}"
            assert ended.stdout.strip() or command in SILENT or WRITES.search(command)


def test_the_readme_answers_about_itself(clone: Path, running: DevStack) -> None:
    upload, *asks = [command for s in _shell("README.md") for command in s.commands if "ragline" in command]
    assert _run(upload, clone).returncode == 0, running.log()
    assert len(asks) == 2
    shown = _run(asks[0], clone).stdout
    assert "If the worker dies, another one takes the lease" in " ".join(shown.split())
    assert re.search(r"^\[\d+\] index\.md$", shown, re.MULTILINE)
    assert "model offline-extractive" in shown


def _run(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    if command.startswith(DRY):
        command = command.replace("make", "make --dry-run", 1)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=clone,
        env=environment({"PATH": os.environ["PATH"]}),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
