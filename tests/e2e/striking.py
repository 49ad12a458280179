"""Strikes at processes of the running program, and whether others have come in their place."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import asyncpg
import httpx
import psutil

from schemas.ids import advisory_key
from tests.chaos.striker import freeze, thaw
from tests.stack import DevStack

How = Literal["frozen", "killed"]


async def until(what: Callable[[], object], *, within_s: float, why: Callable[[], object] = lambda: "") -> None:
    """Returns when `what()` is true."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"did not become true within {within_s} s. {why()}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def outage(stack: DevStack, role: str, how: How) -> AsyncIterator[None]:
    """The server hangs while the block runs; or it is killed before it, and runs again after it."""
    pid = stack.pid(role)
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
        yield
        await until(lambda: pid not in pids(stack, role) and pids(stack, role), within_s=30.0, why=stack.log)
        return
    frozen = freeze(psutil.Process(pid))
    try:
        yield
    finally:
        thaw(frozen)


async def replaced(stack: DevStack, role: str, pid: int, number: int) -> float:
    """The process gets the signal, and another one is ready in its place; how long that took."""
    began = time.monotonic()
    os.kill(pid, number)
    while not await asyncio.to_thread(is_back, stack, role, pid):
        assert time.monotonic() - began < 60.0, stack.log()
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def is_back(stack: DevStack, role: str, ended: int) -> bool:
    """Whether another process is ready in the ended one's place."""
    if ended in pids(stack, role):
        return False
    if role == "edge":
        return all(_is_ready(url) for url in urls(stack))
    return len(list((stack.home / "run").glob(f"{role}-*.ready"))) == len(pids(stack, role))


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def pids(stack: DevStack, role: str) -> list[int]:
    """The role's processes."""
    return [int(process["pid"]) for process in stack.report()["processes"] if process["role"] == role]


def urls(stack: DevStack) -> list[str]:
    """The edges' addresses, in the order of their processes."""
    return [process["url"] for process in stack.report()["processes"] if process["role"] == "edge"]


async def worker_of_slot(stack: DevStack, database: asyncpg.Connection[asyncpg.Record], name: str) -> int:
    """The process that holds the slot, as in `worker-0`: the one with the connection that holds its lock."""
    role, _, number = name.rpartition("-")
    port = await database.fetchval(
        "SELECT client_port FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = $1",
        advisory_key("slot", role, int(number)),
    )
    return next(pid for pid in pids(stack, role) if port in _ports(pid))


async def freeze_between_transactions(pid: int, database: asyncpg.Connection[asyncpg.Record]) -> list[psutil.Process]:
    """What `thaw` takes. In a transaction it would hold its rows until PostgreSQL ends that, after 10 s."""
    while True:
        frozen = freeze(psutil.Process(pid))
        sql = "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY($1::int[]) AND state <> 'idle'"
        if not await database.fetchval(sql, _ports(pid)):
            return frozen
        thaw(frozen)
        await asyncio.sleep(0.01)


def _ports(pid: int) -> list[int]:
    return [connection.laddr.port for connection in psutil.Process(pid).net_connections("tcp")]
