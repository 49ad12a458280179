"""Kinds of text, told by the first bytes of a file; its name decides where these say too little."""

from __future__ import annotations

import re
from pathlib import PurePath

from consumers.documents.parse.csv import separator_of

HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"
CSV = "text/csv"

_HTML_START = re.compile(
    rb"\s*(?:<!--.{0,4000}?-->\s*|<\?xml[^>]{0,200}\?>\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_TAG = re.compile(rb"</?(?:p|div|table|ul|h[1-6]|span|a|br|body|article|section)\b[^>]*>", re.IGNORECASE)
_MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdown", ".mkd")
_MARKDOWN_SIGNS = (
    re.compile(rb"^#{1,6} \S", re.MULTILINE),
    re.compile(rb"^(?:```|~~~)", re.MULTILINE),
    re.compile(rb"^\s*[-*] \S[^\n]*\n\s*[-*] \S", re.MULTILINE),
    re.compile(rb"\[[^\]\n]+\]\((?:https?:|\.?/|#)[^)\n]*\)"),
    re.compile(rb"^\|.*\|\s*\n\|[ :|-]+\|\s*$", re.MULTILINE),
)
_MARKS = b"\xef\xbb\xbf\xff\xfe"
_SAYS_NOTHING = ("", TEXT, "application/octet-stream")


def text_kind(head: bytes, name: str, declared: str) -> str:
    """The media type of the text that begins with `head`, a file called `name` and declared as `declared`."""
    plain = head.replace(b"\x00", b"").lstrip(_MARKS)  # UTF-16 reads as ASCII then
    suffix = PurePath(name).suffix.lower()
    if _HTML_START.match(plain):
        return HTML
    if (declared in (HTML, "application/xhtml+xml") or suffix in (".html", ".htm", ".xhtml")) and _HTML_TAG.search(
        plain
    ):
        return HTML
    if declared == MARKDOWN or suffix in _MARKDOWN_SUFFIXES:
        return MARKDOWN
    if _is_separated(plain.decode("latin-1"), suffix, declared):
        return CSV
    says_nothing = declared in _SAYS_NOTHING and suffix == ""
    if says_nothing and sum(bool(sign.search(plain)) for sign in _MARKDOWN_SIGNS) >= 2:
        return MARKDOWN
    return TEXT


def _is_separated(sample: str, suffix: str, declared: str) -> bool:
    if suffix in (".csv", ".tsv", ".tab") or declared in (CSV, "text/tab-separated-values"):
        return separator_of(sample) is not None
    if declared not in _SAYS_NOTHING or suffix not in ("", ".txt", ".dat"):
        return False
    return separator_of(sample, least_columns=3, least_rows=4, least_share=0.95) is not None
