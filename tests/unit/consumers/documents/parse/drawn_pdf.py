"""Small real PDF files, drawn by hand: text at places, in three of the fonts that every reader has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FONTS = {"text": "Helvetica", "bold": "Helvetica-Bold", "fixed": "Courier"}


@dataclass(frozen=True)
class Drawn:
    """Text whose first letter stands at (x, y), in points from the lower left corner of a page of 600 × 800."""

    text: str
    x: float
    y: float
    size: float = 10
    font: str = "text"


def column(lines: Sequence[str], x: float, top: float, *, pitch: float = 12, font: str = "text") -> list[Drawn]:
    """Lines one under the other."""
    return [Drawn(line, x, top - number * pitch, font=font) for number, line in enumerate(lines)]


def pdf(
    pages: Sequence[Sequence[Drawn]], *, title: str = "", catalog: str = "", page: str = "", more: Sequence[str] = ()
) -> bytes:
    """A PDF with these pages. In a text, `\\x01` is the ligature fi.

    `catalog` and `page` are further entries of the catalog and of each page, `more` further objects. Object 5 + 2n
    is page n; the first of `more` is object 5 + 2 * the number of pages.
    """
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(len(pages)))
    fonts = " ".join(
        f"/{name} << /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding << /Type /Encoding"
        " /BaseEncoding /WinAnsiEncoding /Differences [1 /fi] >> >>"
        for name, base in FONTS.items()
    )
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        f"<< /Font << {fonts} >> >>",
        f"<< /Title ({title}) >>",
    ]
    for number, drawn in enumerate(pages):
        content = "\n".join(f"BT /{d.font} {d.size} Tf {d.x} {d.y} Td ({_escaped(d.text)}) Tj ET" for d in drawn)
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources 3 0 R"
            f" /Contents {6 + 2 * number} 0 R {page} >>"
        )
        objects.append(f"<< /Length {len(content.encode('cp1252'))} >>\nstream\n{content}\nendstream")
    return _written([*objects, *more])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _written(objects: Sequence[str]) -> bytes:
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    start = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    data += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return data
