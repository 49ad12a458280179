"""Clocks: how far a server's is from this machine's."""

from __future__ import annotations

from ragline.doctor.findings import Finding

UNLIKE_S = 2.0
WRONG_S = 30.0
"""An edge that starts reads the last 60 s of the log, by its own clock."""


def clock(name: str, server: str, theirs_s: float, asked_s: float, answered_s: float) -> Finding:
    """What it means that `server` said `theirs_s` between two of our times (all seconds of Unix time)."""
    off_s = theirs_s - (asked_s + answered_s) / 2
    surely_off_s = abs(off_s) - (answered_s - asked_s) / 2
    if surely_off_s <= UNLIKE_S:
        return Finding(name, "ok", f"{server}'s clock agrees with this machine's")
    direction = "ahead of" if off_s > 0 else "behind"
    return Finding(
        name,
        "wrong" if surely_off_s > WRONG_S else "warning",
        f"{server}'s clock is {abs(off_s):.1f} s {direction} this machine's",
        "Let NTP set the clocks of both machines (`timedatectl set-ntp true`).",
    )
