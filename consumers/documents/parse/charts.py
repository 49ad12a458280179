"""Charts in Office documents: their title, and their values as a table."""

from __future__ import annotations

from typing import Any

from consumers.documents.parse.building import TextBuilder
from consumers.documents.parse.tables import TableWriter

_MAX_POINTS = 10_000


def add_chart(root: Any | None, builder: TextBuilder) -> None:
    """Adds what the chart part `root` shows: a row for each category, a column for each series."""
    if root is None:
        return
    title = root.find(".//{*}chart/{*}title")
    builder.add("paragraph", "" if title is None else "".join(text.text or "" for text in title.iter("{*}t")))
    series = list(root.iter("{*}ser"))
    names = [" ".join(_points(one.find("{*}tx")).values()) or f"Series {n}" for n, one in enumerate(series, start=1)]
    categories = next((found for one in series if (found := _points(one.find("{*}cat")))), {})
    columns = [_points(one.find("{*}val")) for one in series]
    table = TableWriter(builder)
    table.add([(0, "Category"), *enumerate(names, start=1)] if series else [])
    for index in sorted({*categories, *(index for column in columns for index in column)})[:_MAX_POINTS]:
        values = [categories.get(index, str(index + 1)), *(column.get(index, "") for column in columns)]
        table.add([(number, value) for number, value in enumerate(values) if value])
    table.end()


def _points(element: Any | None) -> dict[int, str]:
    """Texts by their index."""
    found: dict[int, str] = {}
    for point in () if element is None else element.iter("{*}pt"):
        index = point.get("idx", "")
        if index.isdecimal() and len(index) < 8:
            found[int(index)] = point.findtext("{*}v") or ""
    return found
