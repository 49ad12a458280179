"""What a parser returns, and how it says that a file cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

Source = Path | BytesIO
"""A file, or the bytes of one that is inside another."""

BlockKind = Literal["heading", "paragraph", "table", "code", "list"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the document's structure: `[start, end)` code points of its text.

    `level` is a heading's depth from 1, and 0 for anything else; `page` counts from 1, None where there are none.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document as text with structure. The text is not blank and has neither U+0000 nor lone surrogates.

    Positions are code points. `pages[i]` is the span of page i + 1: spans are in order and disjoint, and only
    whitespace lies outside them; formats without pages have none. `blocks` are in order and disjoint and lie
    within one page each; text that is in no block is plain paragraphs.
    """

    text: str
    media_type: str
    blocks: tuple[Block, ...] = ()
    pages: tuple[tuple[int, int], ...] = ()
    title: str | None = None

    @property
    def n_pages(self) -> int:
        """Number of pages; 0 where the format has none."""
        return len(self.pages)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """Limits of reading one file, cutting included: its child process is ended where it passes one."""

    memory_bytes: int = 256 * 1024 * 1024
    """Private memory of the child: heap and anonymous mappings, beside what it shares with its server."""
    cpu_s: float = 180.0
    wall_s: float = 600.0
    max_characters: int = 20_000_000
    """Longest text of a document, in code points."""


LIGHT = ParseLimits(memory_bytes=48 * 1024 * 1024, cpu_s=2.0, wall_s=20.0)
"""What a file may take that is read beside another one."""
OVER_LIMITS = ("out_of_memory", "timeout", "parser_crashed")
"""Codes of files that other limits may let be read; a crash may be want of memory, too."""


class ParseFailed(Exception):  # noqa: N818 - reads as the fact it is
    """The file cannot be read, now or later. `message` is one sentence for the person who uploaded it.

    `code` is stable: `unsupported_type`, `malformed_file`, `password_needed`, `no_text_layer`, `empty_document`,
    `too_large_text`, `timeout`, `out_of_memory`, `parser_crashed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message
