"""A seed decides everything that a run does by itself."""

from __future__ import annotations

import pytest

from tests.chaos.plan import ROLES, conversation, strikes


def test_a_seed_always_gives_the_same_plan() -> None:
    assert strikes(7, 60.0, gap_s=(2, 7)) == strikes(7, 60.0, gap_s=(2, 7))
    assert strikes(7, 60.0, gap_s=(2, 7)) != strikes(8, 60.0, gap_s=(2, 7))
    assert conversation(7, 1, 2) == conversation(7, 1, 2)
    assert conversation(7, 1, 2) != conversation(7, 2, 1)


@pytest.mark.parametrize("seed", range(20))
def test_each_role_is_killed_before_any_is_frozen(seed: int) -> None:
    first = strikes(seed, 120.0, gap_s=(2, 7))[: len(ROLES)]
    assert {strike.role for strike in first} == set(ROLES)
    assert all(strike.freeze_s is None for strike in first)


def test_every_kind_of_turn_is_played() -> None:
    turns = [turn for slot in range(20) for n in range(20) for turn in conversation(1, slot, n).turns]
    assert {turn.end for turn in turns} == {"answer", "cancel", "delete"}
    assert len({turn.key for turn in turns}) == len(turns) == len({turn.question for turn in turns})
    assert {turn.model for turn in turns} == {"goes-on", "begins-anew", "interrupted"}
