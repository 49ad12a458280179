"""The words of a passage that a claim rests on, as an exact span."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence

from providers.terms import terms

MAX_QUOTE = 300
"""Code points of the longest quote."""

Span = tuple[int, int]

_BREAK = re.compile(
    r"""[。！？｡]+[」』）”’]*\s*                                  # no space needed after these
      | [.!?…؟।]+["'”’»)\]]*(?:\s?\[\d{1,3}\])*\s+(?=[^a-z\s])     # a new sentence does not begin in lower case
      | \n\s*\n\s*                                                # a paragraph ends""",
    re.VERBOSE,
)
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|figs?|eqs?|sec|al|dr|mr|mrs|prof|no|z\.\s?b|d\.\s?h)|\b\w)\.\s+\Z", re.IGNORECASE
)
_WORD_START = re.compile(r"(?<!\S)\S|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def sentence_spans(text: str) -> list[Span]:
    """Spans of the sentences of `text` in order, white space around them left out; empty only if `text` is blank."""
    spans, start = [], 0
    for match in _BREAK.finditer(text):
        if "\n" not in match[0] and _ABBREVIATED.search(text, max(start, match.start() - 12), match.end()):
            continue
        spans.append(_trimmed(text, start, match.end()))
        start = match.end()
    spans.append(_trimmed(text, start, len(text)))
    return [span for span in spans if span[0] < span[1]]


def best_quote(text: str, claims: Sequence[Collection[str]]) -> Span:
    """The span of `text`, at most `MAX_QUOTE` long, that shares most with one of the claims (given as terms).

    Whole sentences where they fit. The opening of `text` if nothing is shared. `text` is not blank.
    """
    pieces = [piece for span in sentence_spans(text) for piece in _bounded(text, span)]
    words = [frozenset(terms(text[start:end])) for start, end in pieces]
    counts = Counter(term for found in words for term in found)
    weights = {term: math.log(1 + len(pieces) / n) for term, n in counts.items()}
    best, best_score = (0, 0), 0.0
    for claim in claims:
        wanted = {term: weights[term] for term in claim if term in weights}
        run, score = _best_run(pieces, words, wanted)
        if score > best_score:
            best, best_score = run, score
    if best_score == 0.0:
        best = _grown(pieces, 0)
    return pieces[best[0]][0], pieces[best[1]][1]


def _best_run(
    pieces: Sequence[Span], words: Sequence[Collection[str]], wanted: dict[str, float]
) -> tuple[tuple[int, int], float]:
    """The run (first, last) of neighbouring pieces that covers most of `wanted`, not longer than it needs to be."""
    best, best_score = (0, 0), 0.0
    total = sum(wanted.values())
    for first in range(len(pieces) if total else 0):
        covered: set[str] = set()
        for last in range(first, len(pieces)):
            length = pieces[last][1] - pieces[first][0]
            if last > first and length > MAX_QUOTE:
                break
            covered.update(term for term in words[last] if term in wanted)
            gain = sum(wanted[term] for term in sorted(covered)) / total
            score = gain * (1 - 0.1 * (last - first)) * (1 - 0.1 * length / MAX_QUOTE)
            if score > best_score:
                best, best_score = (first, last), score
    return best, best_score


def _grown(pieces: Sequence[Span], first: int) -> tuple[int, int]:
    last = first
    while last + 1 < len(pieces) and pieces[last + 1][1] - pieces[first][0] <= MAX_QUOTE // 2:
        last += 1
    return first, last


def _bounded(text: str, span: Span) -> list[Span]:
    """A sentence in pieces of at most `MAX_QUOTE`, cut before words; one without words is cut anywhere."""
    start, end = span
    pieces = []
    while end - start > MAX_QUOTE:
        cuts = [m.start() for m in _WORD_START.finditer(text, start + MAX_QUOTE // 2, start + MAX_QUOTE + 1)]
        cut = cuts[-1] if cuts else start + MAX_QUOTE
        pieces.append(_trimmed(text, start, cut))
        start = cut
    pieces.append(_trimmed(text, start, end))
    return [piece for piece in pieces if piece[0] < piece[1]]


def _trimmed(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
