"""Text into space-separated terms for the full-text index, also where a script has no spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_JOINED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
)
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""
_HANGUL = "\uac00-\ud7af\u1100-\u11ff\u3130-\u318f"
"""Hangul has spaces, but its particles are written on to the words."""
_RUN = re.compile(f"([{_JOINED}]+|[{_HANGUL}]+)|[^\\W_{_JOINED}{_HANGUL}]+")
_LONE = re.compile(
    "(?<![\u3400-\u9fff])[\u3400-\u9fff](?![\u3400-\u9fff])"
    "|(?<![\uac00-\ud7af])[\uac00-\ud7af](?=[\uac00-\ud7af]?(?![\uac00-\ud7af]))"
)
"""A word of one character: Han between kana, or Hangul that at most a particle follows."""


def index_terms(text: str) -> str:
    """Terms of a text that is to be found: words without case and accents; of CJK and kin characters and pairs."""
    return " ".join(term for run, is_wide in _runs(text) for term in ([*run, *_pairs(run)] if is_wide else [run]))


def query_terms(text: str) -> str:
    """Terms of a query, each once: words, and pairs of CJK and kin; single characters only where they are words."""
    terms: dict[str, None] = {}
    for run, is_wide in _runs(text):
        terms |= dict.fromkeys([*(_LONE.findall(run) or run[: len(run) == 1]), *_pairs(run)] if is_wide else [run])
    return " ".join(terms)


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    folded = text.lower() if text.isascii() else _folded(text)
    for match in _RUN.finditer(folded):
        yield match[0], match[1] is not None


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not 0x300 <= ord(c) <= 0x36F))


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]
