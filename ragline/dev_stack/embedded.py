"""The embedded servers as a library: what the supervisor runs, and what the tests start, kill and freeze."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import psutil

from ragline.dev_stack.home import load_secrets
from ragline.dev_stack.kafka import KafkaServer
from ragline.dev_stack.postgres import PostgresServer
from ragline.dev_stack.spawning import Child, Spawner

ServerRole = Literal["kafka", "postgres"]


class EmbeddedServers:
    """Kafka and PostgreSQL in a home folder of their own.

    Nothing in it is bound to an event loop: start it in one and use it from others. Use it from the main thread.
    """

    def __init__(self, home: Path, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self.home = home.resolve()
        self._spawner = Spawner()
        self.home.mkdir(parents=True, exist_ok=True)
        password = load_secrets(self.home).postgres_password
        self._kafka = KafkaServer(self.home, self._spawner, tell)
        self._postgres = PostgresServer(self.home, self._spawner, tell, password=password)
        self._children: dict[ServerRole, Child] = {}

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port`."""
        return self._kafka.bootstrap

    @property
    def postgres_dsn(self) -> str:
        """With user, password and database; the user may create further databases."""
        return self._postgres.dsn

    def pid(self, role: ServerRole) -> int:
        """The JVM's or the postmaster's process id."""
        return self._children[role].pid

    async def start(self) -> None:
        """Holds after: both answer. Raises: DevStackError, with nothing left running."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare_and_start("kafka"))
                group.create_task(self._prepare_and_start("postgres"))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Holds after: neither runs, and what they had is on disk."""
        for role, child in self._children.items():
            self._signal_tree(child, signal.SIGCONT)
            child.send(self._server(role).stop_signal)
        for role, child in self._children.items():
            await child.stop(self._server(role).stop_signal, timeout_s=8.0)
        self._children.clear()
        self._spawner.close()

    async def kill(self, role: ServerRole) -> None:
        """SIGKILL, as an out-of-memory kill would. Holds after: the process is gone."""
        self._children[role].send(signal.SIGKILL)
        await self._children[role].exited()

    async def restart(self, role: ServerRole) -> None:
        """Start again on the same port and data; one that still runs is stopped first. Holds after: it answers."""
        if role in self._children:
            await self._children[role].stop(self._server(role).stop_signal)
        server = self._server(role)
        self._children[role] = server.spawn()
        await server.wait_ready(self._children[role])

    def freeze(self, role: ServerRole) -> None:
        """Let it hang: connections stay open, nothing answers."""
        self._signal_tree(self._children[role], signal.SIGSTOP)

    def thaw(self, role: ServerRole) -> None:
        """Go on after `freeze`."""
        self._signal_tree(self._children[role], signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _prepare_and_start(self, role: ServerRole) -> None:
        await self._server(role).prepare()
        await self.restart(role)

    def _server(self, role: ServerRole) -> KafkaServer | PostgresServer:
        return self._kafka if role == "kafka" else self._postgres

    def _signal_tree(self, child: Child, number: int) -> None:
        """PostgreSQL's backends have sessions of their own: signal them one by one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
