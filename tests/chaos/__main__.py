"""`python -m tests.chaos --seed N --minutes M --streams S [--report FILE] [--json]`: 0 if every promise held."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Options, run

LONGEST_MIN = 50.0  # chunks are kept for an hour, and the log is read whole at the end


def main() -> int:
    """0: good; 1: a promise was broken, and the folder with data and logs is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--streams", type=int, default=20, help="conversations at once")
    parser.add_argument("--report", type=Path, help="also write the report to this file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args()
    if not 0 < given.minutes <= LONGEST_MIN:
        parser.error(f"--minutes: more than 0, at most {LONGEST_MIN:g}")
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix=f"ragline-chaos-{seed}-"))
    print(f"chaos: seed {seed}, in {folder}", file=sys.stderr, flush=True)
    report = run(Options(seed, given.minutes, given.streams), folder)
    said = json.dumps(report.as_json(), indent=2) if given.json else report.text()
    print(said)
    if given.report is not None:
        given.report.write_text(said + "\n")
    if report.is_good:
        shutil.rmtree(folder)
    else:
        print(f"chaos: seed {seed} failed; data and logs stay in {folder}", file=sys.stderr)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
