"""Which passages an answer rests on, and the words in them that say so."""

from __future__ import annotations

from collections.abc import Sequence

from providers.terms import terms
from retrieval.markers import markers
from retrieval.quotes import MAX_QUOTE, best_quote, sentence_spans
from schemas.events import Citation
from storage.ports import PassageView

__all__ = ["MAX_QUOTE", "cite"]

MAX_UNMARKED = 5
_MAX_CLAIMS = 8
"""Sentences of the answer that are looked at for one passage."""


def cite(text: str, offered: Sequence[PassageView]) -> list[Citation]:
    """The passages that `text` cites by `[n]` (`offered[n - 1]`), each once, in order of first mention.

    So the k-th citation belongs to the k-th different marker that names an offered passage. Without any such marker
    the offered passages themselves are cited, best first, at most five; a blank text cites nothing. Every quote is
    at most `MAX_QUOTE` code points of one passage, and `[start, end)` is where it stands in the document's text.
    """
    if not text.strip():
        return []
    claims = _claims(text, offered)
    if not claims:
        whole = [terms(text)]
        cited = [(passage, whole) for passage in offered if passage.text.strip()][:MAX_UNMARKED]
    else:
        cited = [(offered[n - 1], [terms(claim) for claim in said[:_MAX_CLAIMS]]) for n, said in claims.items()]
    return [_citation(passage, said) for passage, said in cited]


def _citation(passage: PassageView, claims: Sequence[Sequence[str]]) -> Citation:
    start, end = best_quote(passage.text, claims)
    return Citation(
        document_id=passage.document_id,
        version=passage.version,
        page=passage.page,
        start=passage.start + start,
        end=passage.start + end,
        quote=passage.text[start:end],
    )


def _claims(text: str, offered: Sequence[PassageView]) -> dict[int, list[str]]:
    """The sentences that cite each passage, by marker, in order of first mention."""
    claims: dict[int, list[str]] = {}
    previous_end = 0
    claim = ""
    for marker in markers(text):
        between = text[previous_end : marker.start]
        if between.strip(" \t.,;:!?。、，"):  # else the marker follows another one and shares its sentence
            claim = _last_sentence(between)
        previous_end = marker.end
        for n in marker.numbers:
            if 1 <= n <= len(offered) and offered[n - 1].text.strip():
                said = claims.setdefault(n, [])
                if claim:
                    said.append(claim)
    return claims


def _last_sentence(text: str) -> str:
    text = text[-4_000:]
    spans = sentence_spans(text)
    if not spans:
        return ""
    start, end = spans[-1]
    return text[start:end]
