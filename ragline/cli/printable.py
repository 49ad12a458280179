"""What others wrote, for a terminal."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines, marks that turn the order of letters, lone surrogates (what is no UTF-8 in a name)."""


def printable(text: str, *, keep: str = "") -> str:
    """`text` without what moves a terminal's cursor or hides what stands there: escaped, but for what is in `keep`."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)
