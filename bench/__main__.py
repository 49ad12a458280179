"""`python -m bench [--only NAME] [--rounds N] [--json] [--write] [--strict]`: measures and prints the table."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from bench import accept, applied, first_token, growth, ingest, memory, persisted, relay, search, start_up, telemetry
from bench.measure import Row
from bench.servers import embedded_servers
from bench.stack import Stack, dev_stack
from bench.table import machine, markdown, show

_BEGAN_S = time.perf_counter()
RESULTS = Path(__file__).absolute().parents[1] / "docs" / "measurements.md"

# accept comes last: it leaves a backlog for the worker that it paused
ON_STACK: dict[str, Callable[..., Awaitable[list[Row]]]] = {
    "memory": memory.run,
    "first_token": first_token.run,
    "applied": applied.while_answers_are_written,
    "relay": relay.run,
    "ingest": ingest.run,
    "accept": accept.run,
}
LONG = ("growth", "telemetry")
"""Measured only where they are named: they take longer than all the others."""
NAMES = ("persisted", "search", "start_up", *ON_STACK)
LINES = (
    "accept",
    "applied",
    "persisted",
    "relay",
    "first token",
    "ingest",
    "search",
    "growth",
    "memory",
    "start-up",
    "telemetry",
)


async def measure(names: Sequence[str], n_rounds: int, up_to: int) -> list[Row]:
    """The rows of these lines, in the order of the table."""
    rows: list[Row] = []
    if "start_up" in names:
        _tell("start_up")
        rows += await start_up.run(n_rounds=n_rounds)
    if "applied" in names:
        _tell("applied")
        async with dev_stack(slots=1) as one_slot:
            rows += await applied.run(one_slot, n_rounds=n_rounds)
    async with AsyncExitStack() as exits:
        stack: Stack | None = None
        for name in [name for name in ON_STACK if name in names]:
            stack = stack or await exits.enter_async_context(dev_stack())
            _tell(name)
            rows += await ON_STACK[name](stack, n_rounds=n_rounds)
    if "search" in names:
        _tell("search")
        async with embedded_servers() as servers:
            rows += await search.run(servers, n_rounds=n_rounds)
    if "growth" in names:
        _tell("growth")
        rows += await growth.run(up_to=up_to)
    if "telemetry" in names:
        _tell("telemetry")
        async with embedded_servers() as servers:
            rows += await telemetry.run(servers, n_rounds=n_rounds)
    # last of all: what it leaves the disk to write would slow the commits of the others
    if "persisted" in names:
        _tell("persisted")
        async with embedded_servers() as servers:
            rows += await persisted.run(servers, n_rounds=n_rounds)
    return sorted(rows, key=lambda row: LINES.index(row.line))


def _tell(name: str) -> None:
    print(f"bench: {time.perf_counter() - _BEGAN_S:.0f} s: {name} …", file=sys.stderr, flush=True)


def main() -> int:
    """0; with `--strict` 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=(*NAMES, *LONG), help="one line of the table; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds of each line (default 3)")
    parser.add_argument("--up-to", type=int, default=growth.SIZES[-1], help="growth: the most passages (default 10⁶)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--write", action="store_true", help=f"write the table to docs/{RESULTS.name}")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a limit is not kept")
    options = parser.parse_args()
    import uvloop

    logging.basicConfig(level=logging.WARNING)  # before WordLlama, which would set it to INFO
    gc.freeze()
    gc.set_threshold(5_000, 20, 100)  # as every process of Ragline has it; the peers in this process gain as well
    rows = uvloop.run(measure(options.only or NAMES, options.rounds, options.up_to))
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, ensure_ascii=False))
    else:
        show(rows)
    if options.write:
        RESULTS.write_text(markdown(rows, RESULTS.read_text() if RESULTS.exists() else ""))
    return int(options.strict and any(row.ok is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
