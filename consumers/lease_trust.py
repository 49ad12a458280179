"""When an expired lease tells of a dead holder, and when only of an outage."""

from __future__ import annotations


class LeaseTrust:
    """While PostgreSQL was away nobody could renew: all leases have expired when it is back, and their holders live.

    So after `away_s` without an answer (of PostgreSQL to this process) every lease counts anew, for `lease_s`: whoever
    lives renews meanwhile, and no work is done twice. The same holds for a process that was frozen.
    """

    def __init__(self, *, away_s: float, lease_s: float, now_s: float) -> None:
        self._away_s = away_s
        self._lease_s = lease_s
        self._answered_s = self._trusted_from_s = now_s

    def answered(self, now_s: float) -> bool:
        """PostgreSQL answers now; whether expired leases may be taken over."""
        if now_s - self._answered_s >= self._away_s:
            self._trusted_from_s = now_s + self._lease_s
        self._answered_s = now_s
        return now_s >= self._trusted_from_s
