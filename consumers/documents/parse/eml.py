"""E-mail messages: who wrote to whom and when, the text once, and the attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.errors import MessageError
from email.message import EmailMessage
from pathlib import Path

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.html import add_page
from consumers.documents.parse.sniff import EML, looks_like_text
from consumers.documents.parse.sniff_text import HTML, TEXT, text_kind
from consumers.documents.parse.text import decode_bytes

_NAMED = ("From", "To", "Cc", "Date")
_MAX_BYTES = 96 * 1024 * 1024
_MAX_ATTACHMENTS = 1_000
_MAX_DEPTH = 5
"""Messages attached to messages that are read; deeper ones are only named."""
_LEAST_SHARE = 0.2
"""A plain text with less than this share of the HTML's characters only says that there is HTML."""


def parse_eml(path: Path, limits: ParseLimits) -> ParsedDocument:
    """The subject is the heading; of alternatives the plain text is read, else the HTML, never both.

    Attachments are named, and read where they are text or messages. Raises: ParseFailed.
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
    body = _body(message)
    if body is not None:
        _add_text(body, builder, limits, depth=depth)
    for number, part in enumerate(_leaves(message)):
        if part is not body and not _is_alternative(part, body) and number < _MAX_ATTACHMENTS:
            _add_attachment(part, builder, limits, depth=depth + 1)


def _header(message: EmailMessage, name: str) -> str:
    """A header for people; one that cannot be understood is as it is written."""
    try:
        return str(message.get(name, "")).strip()
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):  # the parser of headers stumbles
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return str(raw).strip()


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that are not made of parts; an attached message is one."""
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        yield message
        return
    for part in message.get_payload():
        if isinstance(part, EmailMessage):
            yield from _leaves(part)


def _body(message: EmailMessage) -> EmailMessage | None:
    texts = [part for part in _leaves(message) if not part.is_attachment()]
    plain = next((part for part in texts if part.get_content_type() == TEXT), None)
    page = next((part for part in texts if part.get_content_type() == HTML), None)
    if plain is None or page is None:
        return plain or page
    n_plain, n_page = len(_text_of(plain).strip()), len(_text_of(page).strip())
    return page if n_plain < _LEAST_SHARE * n_page and "<" not in _text_of(plain)[:200] and n_plain < 200 else plain


def _is_alternative(part: EmailMessage, body: EmailMessage | None) -> bool:
    """Whether a part says again what the body says."""
    return (
        body is not None
        and not part.is_attachment()
        and part.get_content_type() in (TEXT, HTML)
        and part.get_content_type() != body.get_content_type()
    )


def _text_of(part: EmailMessage) -> str:
    charset = part.get_content_charset()
    data = part.get_payload(decode=True)
    kind = part.get_content_type()
    declared = f"{kind}; charset={charset}" if charset else kind
    return decode_bytes(data, media_type=declared, is_html=kind == HTML) if isinstance(data, bytes) else ""


def _add_text(part: EmailMessage, builder: TextBuilder, limits: ParseLimits, *, depth: int) -> None:
    from consumers.documents.parse.formats import parse_text_of

    text = _text_of(part)
    name = part.get_filename() or ""
    kind = (
        TEXT
        if part.get_content_type() == TEXT and not name
        else text_kind(text[:65536].encode("utf-8", "replace"), name, part.get_content_type())
    )
    if kind == HTML:
        add_page(text, builder)
    elif text.strip():
        builder.add_document(parse_text_of(kind, text, limits), deeper=depth)


def _add_attachment(part: EmailMessage, builder: TextBuilder, limits: ParseLimits, *, depth: int) -> None:
    kind = part.get_content_type()
    attached = part.get_payload()
    if kind == "message/rfc822" and isinstance(attached, list) and attached and isinstance(attached[0], EmailMessage):
        builder.add("heading", f"Attached message: {part.get_filename() or ''}".strip(" :"), level=depth)
        if depth <= _MAX_DEPTH:
            _add_message(attached[0], builder, limits, depth=depth + 1)
        return
    data = part.get_payload(decode=True)
    size = len(data) if isinstance(data, bytes) else 0
    name = part.get_filename() or ""
    builder.add("heading", f"Attachment: {name or 'without a name'} ({kind}, {size:,} bytes)", level=depth)
    if isinstance(data, bytes) and data.strip() and looks_like_text(data[:65536]) and not data.startswith(b"%PDF-"):
        _add_text(part, builder, limits, depth=depth)
