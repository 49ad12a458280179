"""How often a table is optimized while it grows."""

from __future__ import annotations

import pytest

from consumers.index.upkeep import AFTER_ROWS, AT_MOST_ROWS, is_due


def test_a_small_table_is_optimized_after_so_many_rows() -> None:
    assert not is_due(AFTER_ROWS - 1, AFTER_ROWS)
    assert is_due(AFTER_ROWS, AFTER_ROWS)
    assert not is_due(AFTER_ROWS, 1_000_000)
    assert is_due(AT_MOST_ROWS, 10_000_000)


@pytest.mark.parametrize(("size", "at_most"), [(10_000, 2), (100_000, 10), (500_000, 11), (1_000_000, 13)])
def test_how_often_a_row_is_written_anew_is_bounded(size: int, at_most: int) -> None:
    n_rows = n_waiting = n_rewritten = 0
    while n_rows < size:
        n_rows += 1_000
        n_waiting += 1_000
        assert n_waiting <= AT_MOST_ROWS
        if is_due(n_waiting, n_rows):
            n_rewritten += n_rows
            n_waiting = 0
    assert n_rewritten / size <= at_most
