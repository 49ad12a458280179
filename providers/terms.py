"""Words for matching: casefolded, lightly stemmed, character bigrams where a script has no spaces."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from providers.sentences import CJK

_TOKEN = re.compile(f"[{CJK}]+|[\uac00-\ud7af]+|[^\\W_{CJK}\uac00-\ud7af]+")
_WIDE_TOKEN = re.compile(f"[{CJK}\uac00-\ud7af]")
_SUFFIXES = (
    *("izations", "isations", "ization", "isation", "ations", "ation", "itions", "ition", "ments", "ment"),
    *("ungen", "ung", "ings", "ing", "ions", "ion", "ers", "er", "ors", "or", "ies", "ed", "es", "en"),
    *("ly", "em", "s", "e", "y"),
)
_STOPWORD_LIST = (
    "a an the of in on at to for from by with as is are was were be been being it its this that these those and or "
    "but not no if then than so do does did done can could may might will would shall should must have has had how "
    "what when where which who whom whose why we you they he she i me my our your their there here about into over "
    "under between also only such any all each other more most some please tell explain describe give show me "
    "der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind waren wird werden "
    "wie wann wo wer warum welche welcher welches im am zu zum zur von vom mit für auf aus bei nach es sie er "
    "le la les un une des du de et ou est sont dans par pour sur avec que qui quoi quand comment pourquoi où ce "
    "el los las una y o es son en por para con qué cómo cuándo dónde se il lo gli e di che è как что когда где "
    "почему и в на с по не это의 은 는 이 가 을 를 어떻게 무엇 무엇인가요 언제 왜 어디 입니까 합니까 하나요 대해"
)
_BIGRAM_STOP_LIST = (
    "です ます した して いる ある こと もの とは は何 何で どの よう うに にし"
    " 什么 怎么 怎样 如何 为什 么是 的是 "
    "입니 니까 합니 하나 나요 인가 가요"
)


def _folded(text: str) -> str:
    """Casefolded, accents of Latin, Greek and Cyrillic letters removed."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not 0x300 <= ord(c) <= 0x36F))


_STOPWORDS = frozenset(_folded(_STOPWORD_LIST).split())
_BIGRAM_STOP = frozenset(_BIGRAM_STOP_LIST.split())


def terms(text: str) -> list[str]:
    """The matchable terms of `text` in order, stopwords left out."""
    found: list[str] = []
    for token in _TOKEN.findall(_folded(text)):
        if _WIDE_TOKEN.match(token):
            found.extend(_bigrams(token))
        elif token not in _STOPWORDS:
            found.append(stem(token))
    return found


def is_stopword(term: str) -> bool:
    """Whether a folded word, or a pair of characters, says little in most questions."""
    return term in _STOPWORDS or term in _BIGRAM_STOP


def content_words(text: str) -> int:
    """How many words `text` has, a bigram script counted as half a word a character."""
    return sum(max(1, len(t) // 2) if _WIDE_TOKEN.match(t) else 1 for t in _TOKEN.findall(text))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A crude stem that brings `compile`, `compiled`, `compiler` and `compilation` together."""
    if word.isdigit():
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return word[:8]


def _bigrams(token: str) -> list[str]:
    if token in _STOPWORDS:
        return []
    pairs = [token[i : i + 2] for i in range(len(token) - 1)] or [token]
    return [pair for pair in pairs if pair not in _BIGRAM_STOP and pair not in _STOPWORDS]
