"""A short run for every change: each role is killed once or more while people talk, and every promise is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import ROLES
from tests.chaos.run import Options, run


@pytest.mark.timeout(240)
def test_a_short_run(tmp_path: Path) -> None:
    options = Options(seed=20, minutes=0.55, streams=8, gap_s=(1.5, 3.5), most_words_paid=1.3)
    report = run(options, tmp_path)
    assert report.is_good, report.text()
    assert report.kills.keys() == set(ROLES)
    assert sum(report.n_streams.values()) >= options.streams
    assert report.n_attempts > sum(report.n_streams.values()), "nobody took anything over"
