"""Well-formed text from a stream whose pieces may be cut anywhere (design §6, Text)."""

from __future__ import annotations

import re

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ILL_FORMED = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with surrogate pairs joined, lone surrogates and U+0000 as U+FFFD; nothing else changes."""
    if not _ILL_FORMED.search(text):
        return text
    return _ILL_FORMED.sub("\ufffd", _PAIR.sub(_joined, text))


def _joined(match: re.Match[str]) -> str:
    pair = match.group()
    return chr(0x10000 + ((ord(pair[0]) - 0xD800) << 10) + (ord(pair[1]) - 0xDC00))


class TextCleaner:
    """`clean` over a stream: any split of a text gives the same joined result.

    A trailing high surrogate is held back until its pair or `flush` comes.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What is certain after `text`; may be empty."""
        if self._held:
            text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def flush(self) -> str:
        """The end: what was held back, as U+FFFD, or nothing."""
        held, self._held = self._held, ""
        return clean(held)
