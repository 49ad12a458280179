"""`multipart/form-data` read as it arrives: fields are small and kept, the one file is passed on piece by piece."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from producers.edge.problems import too_large
from schemas.errors import Reject

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 200
FORM_OVERHEAD_BYTES = 256 * 1024
"""What a form may be larger than its file."""

_Event: TypeAlias = tuple[str, bytes]


class UploadForm:
    """One form with one file, in the field `file`. Call `open_file`, then `file_bytes` to its end, then `finish`.

    Every method raises: Reject 400 for what is no such form, 413 beyond a limit, 422 for a field at fault; whatever
    `chunks` raises.
    """

    def __init__(self, chunks: AsyncIterator[bytes], content_type: bytes, *, limit_bytes: int) -> None:
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._events: deque[_Event] = deque()
        self._header = (bytearray(), bytearray())
        self._is_over = False
        self.fields: dict[str, list[str]] = {}
        self.filename: str | None = None
        self.media_type: str | None = None
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _malformed("the boundary is missing")
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise _malformed(str(error)) from None

    async def open_file(self) -> None:
        """Reads up to the file's first byte."""
        if not await self._next_part(wants_file=True):
            raise Reject("missing_field", 422, 'send the document as the form field "file"', field="file")

    async def file_bytes(self) -> AsyncIterator[bytes]:
        """The file, piece by piece; it is not empty and not beyond the limit."""
        size = 0
        while True:
            kind, data = await self._next()
            if kind == "end":
                break
            size += len(data)
            if size > self._limit_bytes:
                raise too_large(self._limit_bytes, field="file")
            yield data
        if size == 0:
            raise Reject("empty_file", 422, "the file is empty", field="file")

    async def finish(self) -> None:
        """Reads the fields after the file, to the form's end."""
        if await self._next_part(wants_file=False):
            raise Reject("too_many_files", 422, "one document a request", field="file")

    async def _next_part(self, *, wants_file: bool) -> bool:
        """Keeps fields until a file begins (True) or the form ends (False)."""
        disposition, media_type = b"", b""
        while True:
            kind, data = await self._next()
            if kind == "over":
                return False
            if kind == "part":
                disposition, media_type = b"", b""
            elif kind == "header":
                name, _, value = data.partition(b"\x00")
                if name.lower() == b"content-disposition":
                    disposition = value
                elif name.lower() == b"content-type":
                    media_type = value
            elif kind == "body":
                options = parse_options_header(disposition)[1]
                field = options.get(b"name", b"")
                if field == b"file":
                    if wants_file:
                        self.filename = _decoded(options.get(b"filename", b""), "file")
                        self.media_type = media_type.decode("latin-1") or None
                    return True
                await self._keep_field(_decoded(field, "a field's name"))

    async def _keep_field(self, name: str) -> None:
        value = bytearray()
        while True:
            kind, data = await self._next()
            if kind == "end":
                break
            value += data
            if len(value) > MAX_FIELD_BYTES:
                raise too_large(MAX_FIELD_BYTES, field=name[:100])
        self.fields.setdefault(name, []).append(_decoded(bytes(value), name))
        if sum(len(values) for values in self.fields.values()) > MAX_FIELDS:
            raise Reject("too_many_fields", 422, f"a form has at most {MAX_FIELDS} fields", limit=MAX_FIELDS)

    async def _next(self) -> _Event:
        while not self._events:
            if self._is_over:
                return "over", b""
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise _malformed("the form ends before its last boundary")
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                if "header size" in str(error):
                    raise Reject("invalid_field", 422, "file: its name is too long", field="file") from None
                raise _malformed(str(error)) from None
        return self._events.popleft()

    def _callbacks(self) -> MultipartCallbacks:
        name, value = self._header
        events = self._events

        def end_header() -> None:
            events.append(("header", bytes(name) + b"\x00" + bytes(value)))
            name.clear()
            value.clear()

        def end_form() -> None:
            self._is_over = True

        def add_name(data: bytes, start: int, end: int) -> None:
            name.extend(data[start:end])

        def add_value(data: bytes, start: int, end: int) -> None:
            value.extend(data[start:end])

        return {
            "on_part_begin": lambda: events.append(("part", b"")),
            "on_header_field": add_name,
            "on_header_value": add_value,
            "on_header_end": end_header,
            "on_headers_finished": lambda: events.append(("body", b"")),
            "on_part_data": lambda data, start, end: events.append(("data", data[start:end])),
            "on_part_end": lambda: events.append(("end", b"")),
            "on_end": end_form,
        }


def _decoded(raw: bytes, field: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Reject("invalid_field", 422, f"{field}: not UTF-8", field=field) from None


def _malformed(why: str) -> Reject:
    return Reject("malformed_form", 400, f"the body is no multipart/form-data: {why}")
