"""Texts to read and to search, the same in every run."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from tests.unit.consumers.documents.parse.drawn_pdf import column, pdf

_LINES_A_PAGE, _WORDS_A_LINE = 50, 11


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
    return "\n\n".join(f"# Section {n}\n\n{prose(chance, 500)}" for n in range(n_pages)).encode()


def html_file(chance: random.Random, n_pages: int) -> bytes:
    """An article of such sections."""
    sections = (
        f"<h2>Section {n}</h2>" + "".join(f"<p>{text}</p>" for text in prose(chance, 500).split("\n\n"))
        for n in range(n_pages)
    )
    return f"<html><head><title>x</title></head><body><article>{''.join(sections)}</article></body></html>".encode()


def pdf_file(chance: random.Random, n_pages: int) -> bytes:
    """Pages of fifty lines."""
    words = english_words()
    pages = [
        column([" ".join(chance.choices(words, k=_WORDS_A_LINE)) for _ in range(_LINES_A_PAGE)], 50, 750)
        for _ in range(n_pages)
    ]
    return pdf(pages)
