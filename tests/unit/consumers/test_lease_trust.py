"""An expired lease after an outage."""

from __future__ import annotations

from consumers.lease_trust import LeaseTrust


def test_leases_are_trusted_while_postgresql_answers() -> None:
    trust = LeaseTrust(away_s=2.0, lease_s=3.0, now_s=100.0)
    assert all(trust.answered(100.0 + seconds) for seconds in range(10))


def test_after_an_outage_every_lease_counts_anew() -> None:
    trust = LeaseTrust(away_s=2.0, lease_s=3.0, now_s=100.0)
    assert trust.answered(101.0)
    assert [trust.answered(now_s) for now_s in (103.0, 104.0, 105.5, 106.0, 107.0)] == [False, False, False, True, True]


def test_a_second_outage_begins_another_lease() -> None:
    trust = LeaseTrust(away_s=2.0, lease_s=3.0, now_s=100.0)
    assert [trust.answered(now_s) for now_s in (104.0, 105.0, 107.5, 109.0, 110.0)] == [
        False,
        False,
        False,
        False,
        False,
    ]
    assert [trust.answered(now_s) for now_s in (110.4, 110.5)] == [False, True]
