"""*start-up*: from the command to readiness, alone on the machine.

`ragline dev` in a new home (Kafka's and PostgreSQL's data folders are made) and in one that is there, until its ready
file says that everything answers; then an edge beside its servers, until `/health/ready` is 200.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.children import Children
from bench.http_client import connect, get
from bench.measure import Row, cpu_s, number
from bench.stack import start_dev
from ragline.dev_stack.home import free_port
from ragline.dev_stack.spawning import Child

NEW_HOME_S, AGAIN_S, EDGE_S = 20.0, 12.0, 6.0

Took = tuple[float, float]
"""Seconds of the clock, and of CPU: what else the machine does shows in the first alone."""


async def run(*, n_rounds: int) -> list[Row]:
    """The rows of *start-up*."""
    with tempfile.TemporaryDirectory(prefix="ragline-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home, children = folder / "home", Children(folder)
        home.mkdir()
        try:
            first, dev, _ = await _dev(children, home, folder / "first.json")
            await dev.stop(timeout_s=15)
            again, _, ready = await _dev(children, home, folder / "second.json")
            edges = sorted([await _edge(children, ready) for _ in range(n_rounds)])
        finally:
            children.close()
    return [
        _row("`ragline dev`, new home", first, NEW_HOME_S),
        _row("`ragline dev`, again", again, AGAIN_S),
        _row("`ragline edge` alone", edges[len(edges) // 2], EDGE_S),
    ]


async def _dev(children: Children, home: Path, path: Path) -> tuple[Took, Child, dict[str, Any]]:
    began = time.perf_counter()
    dev, ready = await start_dev(children, home, path)
    return (time.perf_counter() - began, _cpu_s(dev)), dev, ready


def _cpu_s(child: Child) -> float:
    """Of the process and of all below it; what has ended before is missing."""
    process = psutil.Process(child.pid)
    return cpu_s(process.pid, *(below.pid for below in process.children(recursive=True)))


async def _edge(children: Children, ready: dict[str, Any]) -> Took:
    port = free_port(taken=set())
    env = {
        "RAGLINE_HOME": str(ready["home"]),
        "RAGLINE_KAFKA_BOOTSTRAP": str(ready["kafka_bootstrap"]),
        "RAGLINE_POSTGRES_DSN": str(ready["postgres_dsn"]),
    }
    began = time.perf_counter()
    edge = children.start("ragline.cli.main", "edge", "--port", str(port), env=env)
    async with asyncio.timeout(60):
        while await _status(port) != 200:
            if not edge.alive:
                raise RuntimeError(f"the edge ended: {edge.tail(20)}")
            await asyncio.sleep(0.01)
    took = time.perf_counter() - began, _cpu_s(edge)
    await edge.stop()
    return took


async def _status(port: int) -> int:
    """0 while nobody answers."""
    try:
        connection = await connect("127.0.0.1", port)
    except OSError:
        return 0
    status, _ = await connection.request(get("/health/ready", "none"))
    connection.close()
    return status


def _row(measure: str, took: Took, limit_s: float) -> Row:
    took_s, used_s = took
    limit, ours, note = f"≤ {number(limit_s)} s", f"{number(took_s)} s", f"CPU {number(used_s)} s"
    return Row("start-up", measure, limit, "–", ours, number(took_s / limit_s), took_s <= limit_s, note)
