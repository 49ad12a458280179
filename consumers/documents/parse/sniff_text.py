"""Kinds of text, told by the first bytes of a file; its name decides where these say too little."""

from __future__ import annotations

import re
from pathlib import PurePath

from consumers.documents.parse.csv import separator_of

HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"
CSV = "text/csv"
XML = "application/xml"
JSON = "application/json"
IPYNB = "application/x-ipynb+json"
CODE = "text/x-source-code"

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
_XML_START = re.compile(rb"\s*(?:<\?xml\s[^>]{0,200}\?>|<(?:rss|feed|rdf:RDF)\b)")
_JSON_START = re.compile(
    rb'\s*(?:\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|\}\s*$)|\[\s*(?:[\[{"]|\]\s*$|(?:-?\d[\d.eE+-]*|true|false|null)\s*,))',
    re.DOTALL,
)
_NOTEBOOK = (b'"cells"', b'"nbformat"')
_CODE_NAME = re.compile(
    r"(?:.*\.(?:pyi?|[mc]?jsx?|tsx?|java|kts?|scala|groovy|c|h|cc|cpp|cxx|hpp|cs|fs|go|rs|swift|mm?|rb|php|p[lm]|lua|r|jl"
    r"|(?:ba|z)?sh|ps1|bat|sql|hs|ml|exs?|erl|clj|lisp|el|dart|zig|nim|vhdl?|asm|s|f90|pas|vb|proto|thrift|graphql|tf"
    r"|cmake|mk|gradle|s?css|less|vue|svelte|toml|ini|cfg|ya?ml|properties)"
    r"|makefile|dockerfile|gemfile|rakefile|jenkinsfile|cmakelists\.txt)",
    re.IGNORECASE,
)
_SHEBANG = re.compile(rb"#!\s*/\S*(?:bin|env)")
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
    if _XML_START.match(plain):
        return XML
    if declared == MARKDOWN or suffix in _MARKDOWN_SUFFIXES:
        return MARKDOWN
    if _SHEBANG.match(plain) or _CODE_NAME.fullmatch(PurePath(name).name):
        return CODE
    if _JSON_START.match(plain):
        return IPYNB if suffix == ".ipynb" or all(sign in plain for sign in _NOTEBOOK) else JSON
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
