"""What a PDF says beside its pages' text: outline, values of forms, notes, attachments."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

_MAX_ENTRIES = 20_000
_MAX_DEPTH = 15
_MAX_LEVEL = 6
_MAX_ANNOTATIONS = 2_000
"""Of one page."""
_MAX_ATTACHMENTS = 1_000
_MAX_BYTES = 1 << 20
_NUMBER = re.compile(r"^\s*(?:\d+(?:\.\d+)*|[IVXLC]+|[A-Z])[.)]?\s+")
_NOT_A_LETTER = re.compile(r"[\W_]+")
_NOTES = (pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_HIGHLIGHT)
_SHOWN = (
    *(pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX),
    *(pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON),
)


class Outline:
    """The headings that a PDF's outline names. Its titles may lie: only the text of the page makes one a heading."""

    def __init__(self, document: pypdfium2.PdfDocument) -> None:
        self._levels: dict[tuple[int, str], int] = {}
        for entry in islice(document.get_toc(max_depth=_MAX_DEPTH), _MAX_ENTRIES):
            destination = entry.get_dest()
            page = None if destination is None else destination.get_index()
            title = _letters(entry.get_title())
            if page is not None and len(title) > 1:
                self._levels.setdefault((page, title), min(entry.level + 1, _MAX_LEVEL))

    def take(self, page: int, text: str) -> int:
        """The level of the heading `text` on `page` (from 0), 0 if the outline has none there; each counts once."""
        return self._levels.pop((page, _letters(text)), 0) if len(text) <= 300 else 0


def _letters(title: str) -> str:
    """A title without its number, case, spaces and marks, in which outlines and pages differ."""
    return _NOT_A_LETTER.sub("", _NUMBER.sub("", title)).casefold()


def attachments(document: pypdfium2.PdfDocument) -> list[str]:
    """Names of the files inside the PDF."""
    names = []
    for index in range(min(document.count_attachments(), _MAX_ATTACHMENTS)):
        with contextlib.suppress(pypdfium2.PdfiumError):
            names.append(" ".join(document.get_attachment(index).get_name().split()))
    return [name for name in names if name]


def form_of(document: pypdfium2.PdfDocument) -> Any | None:
    """What PDFium needs to read the document's form, None if it has none that can be read."""
    with contextlib.suppress(pypdfium2.PdfiumError):
        document.init_forms()
    return document.formenv and document.formenv.raw


def said_beside(page: Any, form: Any | None) -> list[str]:
    """The filled fields (`name: value`) and the notes of a page; `form` is the document's form environment."""
    found: list[str] = []
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            found += _said(annotation, form)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
    return list(dict.fromkeys(found))  # each button of a group says the group's value


def _said(annotation: Any, form: Any | None) -> Iterator[str]:
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind in _NOTES:
        note = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
        if note:
            yield f"Note: {note}"
    elif kind == pdfium.FPDF_ANNOT_WIDGET and form is not None:
        if pdfium.FPDFAnnot_GetFormFieldType(form, annotation) not in _SHOWN:
            return
        name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation) or _string(
            pdfium.FPDFAnnot_GetFormFieldName, form, annotation
        )
        value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
        if value and value != "Off":
            yield f"{name}: {value}" if name else value


def _string(function: Any, *arguments: Any) -> str:
    """What a function of PDFium writes into a buffer as UTF-16."""
    n_bytes = function(*arguments, None, 0)
    if not 2 < n_bytes <= _MAX_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(n_bytes)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), n_bytes)
    return " ".join(buffer.raw[: n_bytes - 2].decode("utf-16-le", "replace").split())
