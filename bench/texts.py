"""Texts to read and to search, the same in every run."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import docx

from tests.unit.consumers.documents.parse.drawn_pdf import column, pdf

_LINES_A_PAGE, _WORDS_A_LINE = 50, 11
_WORDS_A_PAGE = 500
_A_ROW = 10
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PRESENTATION = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"


@cache
def english_words() -> list[str]:
    """Words of four letters and more, as the offline embedder's vocabulary has them."""
    import wordllama

    folder = Path(wordllama.__file__).parent
    tokenizer = wordllama.WordLlama.load(cache_dir=folder, dim=256, disable_download=True).tokenizer
    vocabulary = {word.lstrip("▁Ġ") for word in tokenizer.get_vocab()}
    return sorted(word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) > 3)


def prose(chance: random.Random, n_words: int) -> str:
    """Sentences in paragraphs."""
    words, sentences = english_words(), []
    while n_words > 0:
        n = min(n_words, chance.randint(8, 20))
        sentences.append(" ".join(chance.choices(words, k=n)).capitalize() + ".")
        n_words -= n
    paragraphs = [" ".join(sentences[i : i + 5]) for i in range(0, len(sentences), 5)]
    return "\n\n".join(paragraphs)


def markdown_file(chance: random.Random, n_pages: int) -> bytes:
    """Sections of some 500 words."""
    return "\n\n".join(f"# Section {n}\n\n{prose(chance, _WORDS_A_PAGE)}" for n in range(n_pages)).encode()


def text_file(chance: random.Random, n_pages: int) -> bytes:
    """Paragraphs and nothing else."""
    return prose(chance, n_pages * _WORDS_A_PAGE).encode()


def html_file(chance: random.Random, n_pages: int) -> bytes:
    """An article of such sections."""
    article = "".join(_section(chance, n) for n in range(n_pages))
    return f"<html><head><title>x</title></head><body><article>{article}</article></body></html>".encode()


def epub_file(chance: random.Random, n_pages: int) -> bytes:
    """A book with a chapter a section."""
    items = "".join(f'<item id="i{n}" href="{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(n_pages))
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(n_pages))
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="book.opf"/></rootfiles></container>',
        "book.opf": f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>",
    }
    return _archive(parts | {f"{n}.xhtml": f"<html><body>{_section(chance, n)}</body></html>" for n in range(n_pages)})


def docx_file(chance: random.Random, n_pages: int) -> bytes:
    """Headings and paragraphs."""
    document, target = docx.Document(), io.BytesIO()
    for n in range(n_pages):
        document.add_heading(f"Section {n}")
        for paragraph in prose(chance, _WORDS_A_PAGE).split("\n\n"):
            document.add_paragraph(paragraph)
    document.save(target)
    return target.getvalue()


def pptx_file(chance: random.Random, n_pages: int) -> bytes:
    """Slides that are full of text."""
    listed = "".join(f'<p:sldId id="{256 + n}" r:id="slide{n}"/>' for n in range(n_pages))
    slides = "".join(f'<Relationship Id="slide{n}" Type="{_OFFICE}/slide" Target="s{n}.xml"/>' for n in range(n_pages))
    whole = f'<Relationship Id="p" Type="{_OFFICE}/officeDocument" Target="ppt/presentation.xml"/>'
    names = f'xmlns:p="{_PRESENTATION}" xmlns:a="{_DRAWING}" xmlns:r="{_OFFICE}"'
    parts = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": f"<Relationships>{whole}</Relationships>",
        "ppt/presentation.xml": f"<p:presentation {names}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f"<Relationships>{slides}</Relationships>",
    }
    for n in range(n_pages):
        texts = "".join(
            f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in prose(chance, _WORDS_A_PAGE).split("\n\n")
        )
        shape = f"<p:sp><p:txBody>{texts}</p:txBody></p:sp>"
        parts[f"ppt/s{n}.xml"] = f"<p:sld {names}><p:cSld><p:spTree>{shape}</p:spTree></p:cSld></p:sld>"
    return _archive(parts)


def csv_file(chance: random.Random, n_pages: int) -> bytes:
    """Rows of ten cells of a word each."""
    words = english_words()
    rows = [chance.choices(words, k=_A_ROW) for _ in range(n_pages * _WORDS_A_PAGE // _A_ROW)]
    return "\n".join(",".join(row) for row in [[f"column {n}" for n in range(_A_ROW)], *rows]).encode()


def pdf_file(chance: random.Random, n_pages: int) -> bytes:
    """Pages of fifty lines."""
    words = english_words()
    pages = [
        column([" ".join(chance.choices(words, k=_WORDS_A_LINE)) for _ in range(_LINES_A_PAGE)], 50, 750)
        for _ in range(n_pages)
    ]
    return pdf(pages)


def _section(chance: random.Random, n: int) -> str:
    paragraphs = prose(chance, _WORDS_A_PAGE).split("\n\n")
    return f"<h2>Section {n}</h2>" + "".join(f"<p>{text}</p>" for text in paragraphs)


def _archive(parts: Mapping[str, str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


MAKERS: Mapping[str, Callable[[random.Random, int], bytes]] = {
    "pdf": pdf_file,
    "docx": docx_file,
    "pptx": pptx_file,
    "html": html_file,
    "epub": epub_file,
    "md": markdown_file,
    "csv": csv_file,
    "txt": text_file,
}
"""By the ending of the file's name: a file of so many pages, of some 500 words each."""
