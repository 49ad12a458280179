"""Office packages and other archives, part by part."""

from __future__ import annotations

import atexit
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.formats import parse
from consumers.documents.parse.sandbox import Sandbox
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

MEGABYTE = 1024 * 1024
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
Content = str | bytes | Iterable[bytes]
SANDBOX = Sandbox()
atexit.register(SANDBOX.close)


def packed(path: Path, parts: Mapping[str, Content]) -> Path:
    """An archive of these parts at `path`; what is large comes in pieces."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            pieces = [content.encode()] if isinstance(content, str) else content
            with archive.open(name, "w", force_zip64=True) as part:
                for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                    part.write(piece)
    return path


def relationships(**targets: str) -> str:
    """The relationships of a part: each id (its digits aside, the kind) and what it names."""
    rows = (
        f'<Relationship Id="{key}" Type="{OFFICE}/{key.rstrip("0123456789")}" Target="{target}"/>'
        for key, target in targets.items()
    )
    return f"<Relationships>{''.join(rows)}</Relationships>"


async def read(path: Path, name: str = "", media_type: str | None = None) -> ParsedDocument:
    """The document, by the whole way but for the sandbox, which tells of passages only."""
    document = parse(path, name=name or path.name, media_type=media_type, limits=ParseLimits())
    assert_well_formed(document)
    return document


async def failed(path: Path, name: str = "") -> str:
    """The code that the whole way, sandbox included, ends with."""
    with pytest.raises(ParseFailed) as caught:
        await SANDBOX.read(path, name=name or path.name, media_type=None)
    assert caught.value.message.endswith(".")
    return caught.value.code


def blocks(document: ParsedDocument) -> list[tuple[str, str]]:
    """(kind, text) of each block."""
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]
