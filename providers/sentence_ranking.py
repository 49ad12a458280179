"""Which sentences of the offered passages answer a question: lexical, deterministic, in any language."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from providers.ports import OfferedPassage
from providers.sentences import CAPTION, sentences
from providers.terms import content_words, terms

_MAX_SENTENCES = 5
_SHARE_OF_BEST = 0.5
_SAME = 0.6
_REFERENCE = re.compile(r"\s?\[\d{1,3}(?:\s?[,;–-]\s?\d{1,3})*\]")
_BIBLIOGRAPHY = re.compile(
    r"^\s*(?:\[\d+\]|\(\d+\))|\b(?:In )?Proceedings\b|\bpp\.|\bpages? \d+[–-]\d+|\bdoi:|\bISBN\b"
    r"|\bet al\.,? \(?(?:19|20)\d\d|https?://"
)
_ROADMAP = re.compile(
    r"^(?:In|The|This) (?:next |remainder of this )?(?:section|chapter|paper|appendix)s?\b|\bas follows\b|^Section \d",
    re.IGNORECASE,
)
_CODE = re.compile(r"[{}=<>|_\\/;#*^~$@]")
_LETTER = re.compile(r"[^\W\d_]")
_TERMINAL = re.compile(r"[.!?…。！？｡؟।:][\"'”’»)\]」』]*$")

_WHEN = (
    r"\b(?:when|until|once|after|before|if|whenever|as soon as|threshold|wenn|sobald|bis|nachdem|lorsque)\b"
    r"|때|후에|とき|場合|たら|后|当|\d"
)
_WHY = (
    r"\b(?:because|since|due to|therefore|reason|so that|weil|denn|daher|parce|car|porque)\b"
    r"|때문|위해|から|ため|ので|因为|由于"
)
_HOW_MANY = r"\bhow (?:many|much|often|long|far|fast)\b|\bwie ?viele?\b|\bcombien\b|몇|얼마|いくつ|いくら|多少|几"
_WHAT = r"\b(?:is an?|means|refers? to|called?|defined|denotes|ist eine?|heißt)\b|이다|입니다|という|である|是"
_CUES = tuple(
    (re.compile(asks, re.IGNORECASE), re.compile(tells, re.IGNORECASE))
    for asks, tells in (
        (r"\bwhen\b|\bwann\b|\bquand\b|\bcuándo\b|언제|いつ|何时|什么时候", _WHEN),
        (r"\bwhy\b|\bwarum\b|\bpourquoi\b|\bpor qué\b|왜|なぜ|为什么", _WHY),
        (_HOW_MANY, r"\d"),
        (r"^\s*(?:what|who) (?:is|are|was|were)\b|^\s*was (?:ist|sind)\b|란 무엇|이란|とは|是什么|什么是", _WHAT),
    )
)
"""What a kind of question (left) finds in the sentence that answers it (right)."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an offered passage; `position` counts within the passage."""

    text: str
    passage: OfferedPassage
    rank: int
    position: int
    terms: frozenset[str]


def answering_sentences(question: str, passages: Sequence[OfferedPassage]) -> list[Sentence]:
    """At most five sentences that answer `question`, by passage (the best first), then in reading order.

    `passages` are best first. Without any sentence that shares a term with the question: the opening sentences of
    the best-ranked document. Empty only if no passage has text.
    """
    found = _read(passages)
    scores = _scores(question, found)
    best = max(scores, default=0.0)
    if best <= 0:
        return _opening(found)
    by_score = sorted(range(len(found)), key=lambda i: (-scores[i], i))
    chosen: list[Sentence] = []
    for i in by_score:
        if scores[i] < _SHARE_OF_BEST * best or len(chosen) == _MAX_SENTENCES:
            break
        if all(_overlap(found[i], other) < _SAME for other in chosen):
            chosen.append(found[i])
    order = {sentence.rank: n for n, sentence in reversed(list(enumerate(chosen)))}
    return sorted(chosen, key=lambda s: (order[s.rank], s.position))


def _read(passages: Sequence[OfferedPassage]) -> list[Sentence]:
    return [
        Sentence(text, passage, rank, position, frozenset(terms(text)))
        for rank, passage in enumerate(passages)
        for position, raw in enumerate(sentences(passage.text))
        if (text := _REFERENCE.sub("", raw).strip())
    ]


def _scores(question: str, found: Sequence[Sentence]) -> list[float]:
    wanted = frozenset(terms(question))
    df = Counter(term for sentence in found for term in sentence.terms)
    idf = {term: math.log(1 + len(found) / n) for term, n in df.items()}
    weights = {term: idf.get(term, 0.0) for term in wanted}
    total = sum(weights.values())
    if total == 0:
        return [0.0] * len(found)
    direct = [sum(weights[t] for t in s.terms & wanted) / total for s in found]
    cues = [cue for asks, cue in _CUES if asks.search(question)]
    weighed = [d * _quality(s) * _placing(s) for d, s in zip(direct, found, strict=True)]
    related = _related_terms(found, weighed, idf, wanted)
    scores = []
    for i, sentence in enumerate(found):
        near = max(
            (direct[j] for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].rank == sentence.rank), default=0
        )
        kinship = sum(related[t] for t in sentence.terms & related.keys())
        score = direct[i] + 0.2 * near + 0.3 * kinship if direct[i] > 0 else 0.0
        score *= 1 + 0.25 * sum(bool(cue.search(sentence.text)) for cue in cues)
        scores.append(score * _quality(sentence) * _placing(sentence))
    return scores


def _related_terms(
    found: Sequence[Sentence], scores: Sequence[float], idf: dict[str, float], wanted: frozenset[str]
) -> dict[str, float]:
    """Terms that the best sentences share beside the question's, weights summing to 1 (pseudo-relevance feedback)."""
    best = sorted(range(len(found)), key=lambda i: -scores[i])[:10]
    mass: defaultdict[str, float] = defaultdict(float)
    for i in best:
        for term in found[i].terms - wanted:
            mass[term] += scores[i]
    n_best = Counter(term for i in best for term in found[i].terms)
    strong = sorted(((mass[t] * idf[t], t) for t in mass if n_best[t] >= 2), reverse=True)[:8]
    total = sum(weight for weight, _ in strong)
    return {term: weight / total for weight, term in strong} if total else {}


def _placing(sentence: Sentence) -> float:
    """Better passages first, but never by much: the words decide."""
    return 1 / (1 + 0.04 * sentence.rank + 0.05 * (sentence.passage.document_rank - 1))


def _quality(sentence: Sentence) -> float:
    """1 for a plain sentence; less for captions, headings, references, code, tables, and what is very long or short."""
    text = sentence.text
    n_words = content_words(text)
    letters = len(_LETTER.findall(text)) / max(1, len(text.replace(" ", "")))
    factor = 1.0 if _TERMINAL.search(text) else 0.4
    if CAPTION.match(text) or _BIBLIOGRAPHY.search(text):
        factor *= 0.15
    if _ROADMAP.search(text):
        factor *= 0.5
    if n_words < 6:
        factor *= 0.3
    if n_words > 40:
        factor *= 40 / n_words
    if letters < 0.7 or len(_CODE.findall(text)) > 0.04 * len(text):
        factor *= 0.3
    if text.endswith(("?", "？", ":")):
        factor *= 0.6
    if text[:1].islower():
        factor *= 0.6  # the passage begins in the middle of a sentence
    return factor


def _overlap(one: Sentence, other: Sentence) -> float:
    """How much of the shorter sentence stands in the other, by terms."""
    smaller = min(len(one.terms), len(other.terms))
    return len(one.terms & other.terms) / smaller if smaller else 1.0


def _opening(found: Sequence[Sentence]) -> list[Sentence]:
    if not found:
        return []
    best_document = min(s.passage.document_rank for s in found)
    document = [s for s in found if s.passage.document_rank == best_document]
    document.sort(key=lambda s: (s.passage.ordinal, s.position))
    prose = [s for s in document if _quality(s) > 0.6]
    return (prose or document)[:3]
