"""The order in which a person reads the lines of a page."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from consumers.documents.parse.pdf_lines import Line

_MAX_DISORDER = 0.02
_MAX_DEPTH = 40
_MAX_LINES = 2_000
"""More on one page is no page that anybody reads: it stays as it is."""
_LONG = 18
"""Characters in a line of a column of text, at least; cells of tables have less."""
_SEVERAL = 3
_COLUMN_EMS = 10
"""A column of text is at least so wide; what is narrower is taken for the cells of a table."""


def in_reading_order(lines: Sequence[Line]) -> list[Line]:
    """Column after column, each from its top. The file's own order stands unless it jumps about or across.

    Lines in one row of a table become one line, with a tab between the cells. Recursive XY cut: Nagy and Seth,
    "Hierarchical representation of optically scanned documents", ICPR 1984.
    """
    ordered = list(lines)
    if 2 <= len(lines) <= _MAX_LINES and (_disorder(lines) > _MAX_DISORDER or _goes_across(lines)):
        ordered = _cut(ordered, median(line.size for line in lines), 0)
    return _rows_joined(ordered)


def _disorder(lines: Sequence[Line]) -> float:
    """Share of steps upwards that do not lead into the next column."""
    jumps = sum(
        following.bottom > line.top and following.x0 < line.x1 - 0.5 * line.size
        for line, following in itertools.pairwise(lines)
    )
    return jumps / len(lines)


def _goes_across(lines: Sequence[Line]) -> bool:
    """Whether columns of text are drawn row by row, or tables column by column."""
    long = [line for line in lines if len(line.text) >= _LONG]
    if sum(line.shares_row(following) for line, following in itertools.pairwise(long)) >= _SEVERAL:
        return True
    cells = _from_top([line for line in lines if len(line.text) < _LONG])
    return sum(line.is_level_with(following) for line, following in itertools.pairwise(cells)) >= _SEVERAL


def _cut(lines: list[Line], size: float, depth: int) -> list[Line]:
    if len(lines) < 2 or depth > _MAX_DEPTH:
        return _from_top(lines)
    x = _gutter(lines, size)
    if x is not None:
        left = [line for line in lines if line.x1 <= x]
        return _cut(left, size, depth + 1) + _cut([line for line in lines if line.x1 > x], size, depth + 1)
    y = _widest_gap([(line.bottom, line.top) for line in lines], 0.15 * size)
    if y is None:
        return _from_top(lines)
    above = [line for line in lines if line.bottom >= y]
    return _cut(above, size, depth + 1) + _cut([line for line in lines if line.bottom < y], size, depth + 1)


def _gutter(lines: list[Line], size: float) -> float | None:
    """Where two columns of text part; None if there are none, or only cells of a table."""
    x = _widest_gap([(line.x0, line.x1) for line in lines], 0.5 * size)
    if x is None:
        return None
    sides = [line for line in lines if line.x1 <= x], [line for line in lines if line.x1 > x]
    stand_beside = min(side[0].top for side in map(_from_top, sides)) > max(
        min(line.bottom for line in side) for side in sides
    )
    are_columns = all(
        max(line.x1 for line in side) - min(line.x0 for line in side) >= _COLUMN_EMS * size for side in sides
    )
    return x if stand_beside and are_columns and not _are_cells(*sides) else None


def _are_cells(left: list[Line], right: list[Line]) -> bool:
    """Whether two sides are columns of one table: many of their lines are level, and mostly one of two is short."""
    ordered = sorted(right, key=lambda line: line.baseline)
    n_rows = n_short = 0
    for line in left:
        place = bisect.bisect_left(ordered, line.baseline, key=lambda other: other.baseline)
        level = next((other for other in ordered[max(0, place - 1) : place + 1] if line.is_level_with(other)), None)
        if level is not None:
            n_rows += 1
            n_short += min(len(line.text), len(level.text)) < _LONG
    return n_rows >= 0.4 * min(len(left), len(right)) and n_short > 0.6 * n_rows


def _widest_gap(spans: list[tuple[float, float]], least: float) -> float | None:
    """The middle of the widest gap that no span touches; None if it is narrower than `least`."""
    best, middle, reached = least, None, None
    for start, end in sorted(spans):
        if reached is not None and start - reached > best:
            best, middle = start - reached, (start + reached) / 2
        reached = end if reached is None else max(reached, end)
    return middle


def _from_top(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.baseline, line.x0))


def _rows_joined(lines: list[Line]) -> list[Line]:
    joined: list[Line] = []
    for line in lines:
        last = joined[-1] if joined else None
        if last is not None and last.ends_word and last.shares_row(line) and line.x0 >= last.x1 - 0.3 * last.size:
            joined[-1] = replace(
                last,
                text=f"{last.text}\t{line.text}",
                x1=line.x1,
                is_bold=last.is_bold and line.is_bold,
                is_fixed=False,
            )
        else:
            joined.append(line)
    return joined
