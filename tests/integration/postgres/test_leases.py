"""Slots are exclusive and free again at once when their process dies."""

from __future__ import annotations

import asyncio

import pytest

from schemas.errors import Retry, Stop
from storage.postgres.leases import Slot, single_active
from storage.postgres.unit_of_work import Database


async def test_each_process_has_a_number_of_its_own(database: Database) -> None:
    first, second, third = (Slot(database, "worker") for _ in range(3))
    await first.acquire()
    await second.acquire()
    assert (first.name, second.name) == ("worker-0", "worker-1")
    await first.release()
    await third.acquire()
    assert third.name == "worker-0"
    await second.release()
    await third.release()


async def test_a_slot_comes_back_after_its_connection_was_lost(database: Database) -> None:
    slot = Slot(database, "worker")
    await slot.acquire()
    watching = asyncio.create_task(slot.watch(interval_s=0.05))
    lost = slot._connection
    assert lost is not None
    lost.terminate()
    other = Slot(database, "worker")
    async with asyncio.timeout(10):
        while slot._connection is lost:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)  # a try or two: the number is its own again, and stays
    await other.acquire()
    assert other.number == 1
    watching.cancel()
    await slot.release()
    await other.release()


async def test_a_slot_that_another_process_has_taken_ends_the_process(database: Database) -> None:
    slot, thief = Slot(database, "worker"), Slot(database, "worker")
    await slot.acquire()
    connection = slot._connection
    assert connection is not None
    await connection.execute("SELECT pg_advisory_unlock_all()")
    await thief.acquire()
    connection.terminate()
    with pytest.raises(Stop, match="worker-0"):
        await asyncio.wait_for(slot.watch(interval_s=0.05, patience_s=0.2), 10)
    await thief.release()


async def test_one_is_active_and_the_next_takes_over(database: Database) -> None:
    order = []

    async def run(name: str) -> None:
        async with single_active(database, "relay"):
            order.append(f"{name} begins")
            await asyncio.sleep(0.1)
            order.append(f"{name} ends")

    await asyncio.gather(run("a"), run("b"))
    assert [line.split()[1] for line in order] == ["begins", "ends", "begins", "ends"]


async def test_a_server_that_is_away_is_a_retry() -> None:
    away = Database("postgresql://ragline@127.0.0.1:1/ragline")
    with pytest.raises(Retry):
        async with away.transaction():
            pass
    with pytest.raises(Retry):
        await Slot(away, "worker").acquire()
