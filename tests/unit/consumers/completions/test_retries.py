"""What follows a call that failed."""

from __future__ import annotations

import pytest

from consumers.completions.retries import EXHAUSTED, Again, FallBack, GiveUp, Retries
from providers.ports import ProviderError

RETRIES = Retries(max_attempts=5)


def failed(code: str = "overloaded", *, retryable: bool = True, after_s: float | None = None) -> ProviderError:
    return ProviderError(code, "words of the provider", retryable=retryable, retry_after_s=after_s)


def waited(step: Again | FallBack | GiveUp) -> float:
    assert isinstance(step, Again)
    return step.after_s


@pytest.mark.parametrize(("n_barren", "waits_s"), [(0, 0.5), (1, 0.5), (2, 2.5), (3, 12.5), (4, 60.0)])
def test_waits_grow_five_times_up_to_a_minute_and_differ_by_a_fifth(n_barren: int, waits_s: float) -> None:
    steps = [RETRIES.next_step(failed(), n_barren=n_barren, fallback=None, chance=chance) for chance in (0, 0.5, 1)]
    assert [waited(step) for step in steps] == pytest.approx([waits_s * factor for factor in (0.8, 1.0, 1.2)])


def test_where_another_model_can_answer_waits_are_short() -> None:
    steps = [RETRIES.next_step(failed(), n_barren=n, fallback="other", chance=0.5) for n in (1, 2, 3, 4)]
    assert [waited(step) for step in steps] == pytest.approx([0.1, 0.2, 0.4, 0.8])


@pytest.mark.parametrize("fallback", [None, "other"])
def test_what_the_provider_asks_for_is_kept_and_never_cut_short(fallback: str | None) -> None:
    for chance in (0.0, 1.0):
        step = RETRIES.next_step(failed(after_s=7.0), n_barren=1, fallback=fallback, chance=chance)
        assert waited(step) == pytest.approx(7.0 * (1 + 0.2 * chance))


def test_a_provider_that_asks_for_too_long_a_wait_is_left() -> None:
    assert RETRIES.next_step(failed(after_s=11.0), n_barren=1, fallback="other", chance=0) == FallBack("other")
    step = RETRIES.next_step(failed("rate_limited", after_s=3600.0), n_barren=1, fallback=None, chance=0)
    assert isinstance(step, GiveUp)
    assert step.error.code == "rate_limited"


def test_after_so_many_barren_attempts_another_model_or_the_end() -> None:
    assert RETRIES.next_step(failed(), n_barren=5, fallback="other", chance=0) == FallBack("other")
    step = RETRIES.next_step(failed(), n_barren=5, fallback=None, chance=0)
    assert isinstance(step, GiveUp)
    assert step.error.code == EXHAUSTED
    assert "words of the provider" in step.error.message


@pytest.mark.parametrize(
    ("code", "expected"), [("bad_key", "other"), ("context_too_long", "other"), ("content_filter", None)]
)
def test_what_trying_again_does_not_help_goes_to_another_model_or_ends(code: str, expected: str | None) -> None:
    step = RETRIES.next_step(failed(code, retryable=False), n_barren=0, fallback="other", chance=0)
    if expected is not None:
        assert step == FallBack(expected)
    else:
        assert isinstance(step, GiveUp)
        assert (step.error.code, step.error.message) == (code, "words of the provider")
