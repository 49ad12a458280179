"""E-mail messages: who wrote to whom and when, the text once, and the attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from email.errors import MessageError
from email.message import EmailMessage
from io import BytesIO
from itertools import islice
from pathlib import Path

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.html import add_page
from consumers.documents.parse.sniff import EML, looks_like_text, packed_kind
from consumers.documents.parse.sniff_text import HTML, TEXT, text_kind
from consumers.documents.parse.text import decode_bytes

_NAMED = ("From", "To", "Cc", "Date")
_MAX_BYTES = 96 * 1024 * 1024
_MAX_PARTS = 1_000
_MAX_ATTACHMENT = 24 * 1024 * 1024
"""Characters of an attachment as it is sent; a larger one is only named."""
_MAX_DEPTH = 5
"""Messages attached to messages that are read; deeper ones are only named."""
_LEAST_SHARE = 0.2
_MAX_NOTICE = 200
"""A plain text of fewer characters, and of less than this share of the HTML's, only says that there is HTML."""
_MESSAGE = "message/rfc822"
_BINARY = ("image", "audio", "video", "font")
_HEAD = 64 * 1024


def parse_eml(path: Path, limits: ParseLimits) -> ParsedDocument:
    """The subject is the heading; of alternatives the plain text is read, else the HTML, never both.

    Attachments are named, and read where there is a parser for them. Raises: ParseFailed.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ParseFailed(
            "too_large_text", f"The message is larger than {_MAX_BYTES >> 20} MB; save it without attachments."
        )
    builder = TextBuilder(max_characters=limits.max_characters)
    try:
        with path.open("rb") as file:
            message = email.message_from_binary_file(file, policy=email.policy.default)
        _add_message(message, builder, limits, depth=1)
    except (RecursionError, MessageError) as error:
        raise ParseFailed(
            "malformed_file", "The message is nested too deeply or damaged, and cannot be read."
        ) from error
    return builder.finish(EML, title=_header(message, "Subject"))


def _add_message(message: EmailMessage, builder: TextBuilder, limits: ParseLimits, *, depth: int) -> None:
    builder.add("heading", _header(message, "Subject"), level=depth)
    headers = ((name, _header(message, name)) for name in _NAMED)
    builder.add("paragraph", "\n".join(f"{name}: {text}" for name, text in headers if text))
    parts = _parts(message)
    for part in islice(parts, _MAX_PARTS):
        if _is_text(part) and not part.get_filename():
            _add_text(part, builder, limits, depth=depth)
        elif not _is_picture_of_page(part):
            _add_attachment(part, builder, limits, depth=depth + 1)
    if next(parts, None) is not None:
        builder.add("paragraph", f"Not read: what follows the first {_MAX_PARTS:,} parts.")


def _header(message: EmailMessage, name: str) -> str:
    """A header for people; one that cannot be understood is as it is written."""
    try:
        return str(message.get(name, "")).strip()
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):  # the parser of headers stumbles
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return str(raw).strip()


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that are not made of parts, of alternative texts only one; an attached message is one part."""
    if message.get_content_type() == _MESSAGE or not message.is_multipart():
        yield message
        return
    children = _children(message)
    shown = _shown(children) if message.get_content_type() == "multipart/alternative" else None
    for child in children:
        for part in _parts(child):
            if shown is None or child is shown or not _is_text(part):
                yield part


def _children(message: EmailMessage) -> list[EmailMessage]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, EmailMessage)] if isinstance(payload, list) else []


def _shown(alternatives: list[EmailMessage]) -> EmailMessage | None:
    """The plain text, unless there is none or it only says that there is HTML."""
    plain = next((part for part in alternatives if part.get_content_type() == TEXT), None)
    pages = ((part, page) for part in alternatives for page in part.walk())
    rich, page = next(((part, page) for part, page in pages if page.get_content_type() == HTML), (None, None))
    if plain is None or page is None:
        return plain or rich or next(iter(alternatives), None)
    n_plain = len(_text_of(plain).strip())
    return rich if n_plain < min(_MAX_NOTICE, _LEAST_SHARE * len(_text_of(page))) else plain


def _is_text(part: EmailMessage) -> bool:
    """Whether it is text to be shown with the message."""
    return part.get_content_maintype() == "text" and not part.is_attachment()


def _is_picture_of_page(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "image" and "Content-ID" in part and not part.is_attachment()


def _text_of(part: EmailMessage) -> str:
    charset = part.get_content_charset()
    data = part.get_payload(decode=True)
    kind = part.get_content_type()
    declared = f"{kind}; charset={charset}" if charset else kind
    return decode_bytes(data, media_type=declared, is_html=kind == HTML) if isinstance(data, bytes) else ""


def _add_text(part: EmailMessage, builder: TextBuilder, limits: ParseLimits, *, depth: int) -> None:
    from consumers.documents.parse.formats import parse_text_of

    text = _text_of(part)
    if not text.strip():
        return
    name, declared = part.get_filename() or "", part.get_content_type()
    kind = text_kind(text[:_HEAD].encode("utf-8", "replace"), name, declared) if name or declared != TEXT else TEXT
    with _failure_told(builder):
        if kind == HTML:
            add_page(text, builder)
        else:
            builder.add_document(parse_text_of(kind, text, limits), deeper=depth)


@contextmanager
def _failure_told(builder: TextBuilder) -> Iterator[None]:
    """A part that cannot be read says so, and costs the message nothing else."""
    try:
        yield
    except ParseFailed as failed:
        if failed.code == "too_large_text":
            raise
        builder.add("paragraph", f"Not read: {failed.message}")


def _add_attachment(part: EmailMessage, builder: TextBuilder, limits: ParseLimits, *, depth: int) -> None:
    from consumers.documents.parse.formats import parse_packed

    kind, name = part.get_content_type(), part.get_filename() or ""
    if kind == _MESSAGE and (attached := _children(part)):
        builder.add("heading", f"Attached message: {name}".strip(" :"), level=depth)
        if depth <= _MAX_DEPTH:
            _add_message(attached[0], builder, limits, depth=depth + 1)
        return
    builder.add("heading", f"Attachment: {name or 'without a name'} ({kind})", level=depth)
    payload = part.get_payload()
    if not isinstance(payload, str) or len(payload) > _MAX_ATTACHMENT or part.get_content_maintype() in _BINARY:
        return
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return
    with _failure_told(builder):
        packed = packed_kind(BytesIO(data), data[:_HEAD])
        if packed is not None:
            builder.add_document(parse_packed(packed, BytesIO(data), limits), deeper=depth)
        elif looks_like_text(data[:_HEAD]):
            _add_text(part, builder, limits, depth=depth)
