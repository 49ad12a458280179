"""Jupyter notebooks: prose, code and what the code put out as text (nbformat 4)."""

from __future__ import annotations

import re

import msgspec

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.markdown import parse_markdown

MEDIA_TYPE = "application/x-ipynb+json"
_MAX_OUTPUT = 4_000
"""Characters kept of one output: the rest is rarely worth a search."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_Text = str | list[str]


class _Output(msgspec.Struct):
    text: _Text = ""
    data: dict[str, msgspec.Raw] = {}
    ename: str = ""
    evalue: str = ""


class _Cell(msgspec.Struct):
    cell_type: str
    source: _Text = ""
    outputs: list[_Output] = []


class _Notebook(msgspec.Struct):
    cells: list[_Cell]
    nbformat: int


def parse_ipynb(text: str, limits: ParseLimits) -> ParsedDocument:
    """Cells in their order, each followed by its outputs: Markdown with its structure, code whole.

    Raises: ParseFailed.
    """
    try:
        notebook = msgspec.json.decode(text, type=_Notebook)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ParseFailed("malformed_file", "The notebook is damaged or cut short, and cannot be read.") from error
    builder = TextBuilder(max_characters=limits.max_characters)
    title = None
    for cell in notebook.cells:
        source = _joined(cell.source)
        if not source.strip():
            continue
        if cell.cell_type == "markdown":
            prose = parse_markdown(source, limits)
            title = title or prose.title
            builder.add_document(prose)
        else:
            builder.add("code" if cell.cell_type == "code" else "paragraph", source)
        for output in cell.outputs:
            builder.add("code", _shown(output))
    return builder.finish(MEDIA_TYPE, title=title)


def _shown(output: _Output) -> str:
    text = _joined(output.text)
    if not text and (plain := output.data.get("text/plain")) is not None:
        try:
            text = _joined(msgspec.json.decode(plain, type=_Text))
        except msgspec.MsgspecError:
            text = ""
    text = _COLOURS.sub("", text or f"{output.ename}: {output.evalue}".strip(" :"))
    return text if len(text) <= _MAX_OUTPUT else f"{text[:_MAX_OUTPUT]}…"


def _joined(text: _Text) -> str:
    return text if isinstance(text, str) else "".join(text)
