"""Text into space-separated terms for the full-text index, also where a script has no spaces."""

from __future__ import annotations

import re
import unicodedata

_JOINED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""
_HANGUL = "\uac00-\ud7af\u1100-\u11ff\u3130-\u318f"
"""Hangul has spaces, but its particles are written on to the words."""
_RUN = re.compile(f"([{_JOINED}]+|[{_HANGUL}]+)|[^\\W_{_JOINED}{_HANGUL}]+")


def index_terms(text: str) -> str:
    """Terms of a text that is to be found: words, and single characters and pairs of CJK and kin."""
    return " ".join(_terms(text, singles=True))


def query_terms(text: str) -> str:
    """Terms of a query: words, and pairs of CJK and kin; a character that stands alone is its own term."""
    return " ".join(dict.fromkeys(_terms(text, singles=False)))


def _terms(text: str, *, singles: bool) -> list[str]:
    found: list[str] = []
    for match in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match[0]
        if match[1] is None:
            found.append(run)
            continue
        if singles or len(run) == 1:
            found.extend(run)
        found.extend(run[i : i + 2] for i in range(len(run) - 1))
    return found
