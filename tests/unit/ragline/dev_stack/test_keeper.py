"""How quickly a dead process comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ragline.dev_stack.keeper import LONGEST_DELAY_S, delay_s


def test_the_first_death_costs_nothing() -> None:
    assert [delay_s(n) for n in range(5)] == [0.0, 0.0, 0.25, 0.5, 1.0]


@given(st.integers(min_value=0, max_value=10**6))
def test_the_delay_grows_and_is_bounded(n_early_deaths: int) -> None:
    assert delay_s(n_early_deaths) <= delay_s(n_early_deaths + 1) <= LONGEST_DELAY_S
