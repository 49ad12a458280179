"""The project's files, as the lints look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ragline", "producers", "consumers", "retrieval", "providers", "storage", "schemas", "telemetry")
_IGNORED = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: str
    tree: ast.Module
    n_lines: int

    @property
    def is_test(self) -> bool:
        """Whether it is a test or belongs to one."""
        return self.path.startswith("tests/")


def files() -> Iterator[Path]:
    """Every file that could be committed."""
    yield from _below(ROOT)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in _IGNORED):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        elif path.is_file():
            yield path


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file, parsed."""
    return tuple(
        parsed(path.relative_to(ROOT).as_posix(), path.read_text()) for path in files() if path.suffix == ".py"
    )


def parsed(path: str, text: str) -> Source:
    """A Python file of this text."""
    return Source(path, ast.parse(text), len(text.splitlines()))


def product() -> tuple[Source, ...]:
    """What the wheel holds."""
    return tuple(source for source in sources() if source.path.split("/")[0] in PACKAGES)


def calls(source: Source) -> Iterator[tuple[str, int]]:
    """The last name of what is called, and the line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=name) | ast.Name(id=name):
                    yield name, node.lineno


def imports(source: Source) -> Iterator[tuple[str, int]]:
    """The modules that are imported, and the line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
