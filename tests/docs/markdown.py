"""The fenced blocks of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One fenced block: its language, what else stands after it, and the text."""

    page: str
    language: str
    mark: str
    text: str

    @property
    def commands(self) -> list[str]:
        """A shell block's commands."""
        return self.text.replace("\\\n", "").splitlines()


def pages() -> list[str]:
    """Every page, from the repository's root."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [path.relative_to(ROOT).as_posix() for path in found]


def snippets(page: str) -> Iterator[Snippet]:
    """The page's blocks, in order."""
    for match in _FENCE.finditer((ROOT / page).read_text()):
        language, _, mark = match["info"].partition(" ")
        yield Snippet(page, language, mark.strip(), match["text"])
