"""Forms arrive in any pieces; what is no such form is refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.edge.multipart import UploadForm
from schemas.errors import Reject

CONTENT_TYPE = b"multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, *, filename: str | None = None, media_type: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    kind = f"Content-Type: {media_type}\r\n" if media_type else ""
    return f"--xyz\r\nContent-Disposition: {disposition}\r\n{kind}\r\n".encode() + value + b"\r\n"


END = b"--xyz--\r\n"


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for i in range(0, len(body), size):
        yield body[i : i + size]


async def read(body: bytes, size: int = 1000, limit: int = 1000) -> tuple[UploadForm, bytes]:
    form = UploadForm(in_pieces(body, size), CONTENT_TYPE, limit_bytes=limit)
    await form.open_file()
    data = b"".join([piece async for piece in form.file_bytes()])
    await form.finish()
    return form, data


@given(data=st.binary(min_size=1, max_size=300), size=st.integers(1, 60))
async def test_a_form_in_any_pieces(data: bytes, size: int) -> None:
    body = (
        part("tags", b"a,b")
        + part("file", data, filename="Grüße.pdf", media_type="application/pdf")
        + part("name", "Bär".encode())
        + END
    )
    form, found = await read(body, size)
    assert found == data
    assert (form.filename, form.media_type) == ("Grüße.pdf", "application/pdf")
    assert form.fields == {"tags": ["a,b"], "name": ["Bär"]}


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (part("name", b"x") + END, 422, "missing_field", "file"),
        (END, 422, "missing_field", "file"),
        (part("file", b"") + END, 422, "empty_file", "file"),
        (part("file", b"a") + part("file", b"b") + END, 422, "too_many_files", "file"),
        (part("file", b"x" * 1001) + END, 413, "too_large", "file"),
        (part("name", b"\xff") + part("file", b"a") + END, 422, "invalid_field", "name"),
        (part("name", b"x" * 70_000) + part("file", b"a") + END, 413, "too_large", "name"),
        (part("n", b"x") * 201 + part("file", b"a") + END, 422, "too_many_fields", None),
        (part("file", b"a", filename="n" * 5_000) + END, 422, "invalid_field", "file"),
        (part("file", b"a"), 400, "malformed_form", None),
        (b"hello", 400, "malformed_form", None),
        (b"", 400, "malformed_form", None),
    ],
)
async def test_a_bad_form_is_refused(body: bytes, status: int, code: str, field: str | None) -> None:
    with pytest.raises(Reject) as caught:
        await read(body)
    assert (caught.value.status, caught.value.code, caught.value.field) == (status, code, field)


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 500])
async def test_a_form_needs_a_boundary(content_type: bytes) -> None:
    with pytest.raises(Reject) as caught:
        UploadForm(in_pieces(b"", 1), content_type, limit_bytes=1)
    assert caught.value.status == 400
