"""`ragline dev`: one process that starts the whole stack, keeps it running and stops it in order."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragline.dev_stack import ready_file
from ragline.dev_stack.environment import child_environment
from ragline.dev_stack.errors import ChildDiedError, DevStackError
from ragline.dev_stack.home import Secrets, free_port, load_secrets, locked, wait_until_free
from ragline.dev_stack.kafka import KafkaServer
from ragline.dev_stack.keeper import Keeper
from ragline.dev_stack.narrator import Narrator
from ragline.dev_stack.postgres import PostgresServer
from ragline.dev_stack.roles import Commands, Role
from ragline.dev_stack.server import Service, log_file
from ragline.dev_stack.spawning import Child, Spawner
from ragline.settings import Settings

ROLES_STOP_S = 5.0
SERVERS_STOP_S = 3.5
_PORT_PATIENCE_S = 1.5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class DevOptions:
    """What the command line asks for; `port` 0 means any free ones."""

    home: Path
    port: int = 8080
    n_edges: int = 1
    n_workers: int = 1
    ready_file: Path | None = None
    embedded: bool = True
    commands: Commands = field(default_factory=Commands)


class _StopRequestedError(Exception):
    """Ctrl-C, SIGTERM or a closed terminal."""


class Supervisor:
    """Runs one stack once. Holds after `run`: nothing that it started is alive, and the ready file is gone."""

    def __init__(self, options: DevOptions, settings: Settings, narrator: Narrator) -> None:
        self._options = options
        self._settings = settings
        self._narrator = narrator
        self._home = options.home.resolve()
        self._spawner = Spawner()
        self._keepers: list[Keeper] = []
        self._stop = asyncio.Event()
        self._is_ready = False
        self._started_at = time.monotonic()
        self._secrets: Secrets
        self._ports: list[int] = []
        self._kafka_bootstrap = settings.kafka_bootstrap
        self._postgres_dsn = settings.postgres_dsn.get_secret_value()

    async def run(self) -> None:
        """Returns after an orderly stop. Raises: DevStackError if the stack cannot run."""
        self._take_signals()
        _remove(self._options.ready_file)
        with locked(self._home):
            self._remove_ready_files()
            self._secrets = load_secrets(self._home)
            self._ports = self._edge_ports()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._raise_when_stopped())
                    await self._bring_up(group)
            except* _StopRequestedError:
                pass
            except* (DevStackError, OSError) as failures:
                raise _first(failures) from None
            finally:
                await self._shut_down()
                self._ignore_signals()

    def request_stop(self) -> None:
        """Stop in order; asking again changes nothing."""
        self._stop.set()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.request_stop)

    @staticmethod
    def _ignore_signals() -> None:
        """A late second Ctrl-C does not turn the orderly stop into an error."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    async def _raise_when_stopped(self) -> None:
        await self._stop.wait()
        raise _StopRequestedError

    async def _bring_up(self, group: asyncio.TaskGroup) -> None:
        bootstrap = self._spawner.spawn(
            "bootstrap",
            self._options.commands.bootstrap,
            log=log_file(self._home, "bootstrap"),
            env=self._env(),
            fed=True,
        )
        try:
            if self._options.embedded:
                await self._start_servers(group)
            self._narrator.progress("preparing database, topics and the first tenant")
            await self._bootstrap(bootstrap)
        finally:
            bootstrap.end_now()
        self._narrator.progress("starting edges, workers and relay")
        await self._keep_all(group, self._roles())
        self._is_ready = True
        self._write_ready_files()
        seconds = time.monotonic() - self._started_at
        self._narrator.ready(base_url=self._url(self._ports[0]), api_key=self._secrets.api_key, seconds=seconds)

    async def _start_servers(self, group: asyncio.TaskGroup) -> None:
        tell = self._narrator.progress
        kafka = KafkaServer(self._home, self._spawner, tell)
        postgres = PostgresServer(self._home, self._spawner, tell, password=self._secrets.postgres_password)
        tell("starting Kafka and PostgreSQL")

        async def prepare_and_keep(server: KafkaServer | PostgresServer) -> None:
            await server.prepare()
            await self._keep_all(group, [server])

        async with asyncio.TaskGroup() as starting:
            starting.create_task(prepare_and_keep(kafka))
            starting.create_task(prepare_and_keep(postgres))
        self._kafka_bootstrap, self._postgres_dsn = kafka.bootstrap, postgres.dsn

    async def _bootstrap(self, child: Child) -> None:
        wanted = {
            "kafka_bootstrap": self._kafka_bootstrap,
            "postgres_dsn": self._postgres_dsn,
            "admin_email": self._secrets.admin_email,
            "admin_password": self._secrets.admin_password,
            "api_key": self._secrets.api_key,
        }
        child.feed(json.dumps(wanted))
        if await child.exited() != 0:
            reason = (child.tail(1) or "no reason given")[:300]
            raise ChildDiedError(f"database and topics could not be prepared ({reason}); see {child.log}", child.tail())

    async def _keep_all(self, group: asyncio.TaskGroup, services: Iterable[Service]) -> None:
        """Start the services and keep them; returns when each has been ready once."""
        keepers = [Keeper(s, on_change=self._write_ready_files, narrator=self._narrator) for s in services]
        self._keepers += keepers
        for keeper in keepers:
            group.create_task(keeper.run())
        for keeper in keepers:
            await keeper.was_ready.wait()

    def _roles(self) -> list[Role]:
        commands, env = self._options.commands, self._env()
        roles = [
            Role("edge", n, commands.edge(port), home=self._home, env=env, spawner=self._spawner, url=self._url(port))
            for n, port in enumerate(self._ports, start=1)
        ]
        others = [("worker", n, commands.worker) for n in range(1, self._options.n_workers + 1)]
        first = self._settings.telemetry.metrics_port
        for role, number, command in [*others, ("relay", 1, commands.relay)]:
            touch = self._home / "run" / f"{role}-{number}.ready"
            port = first and first + (number if role == "worker" else 0)
            own = {**env, "RAGLINE_TELEMETRY__METRICS_PORT": str(port)}
            url = f"http://127.0.0.1:{port}" if port else None
            roles.append(
                Role(
                    role, number, command(touch), home=self._home, env=own, spawner=self._spawner, url=url, touch=touch
                )
            )
        return roles

    def _env(self) -> dict[str, str]:
        return child_environment(
            RAGLINE_HOME=str(self._home),
            RAGLINE_KAFKA_BOOTSTRAP=self._kafka_bootstrap,
            RAGLINE_POSTGRES_DSN=self._postgres_dsn,
        )

    def _edge_ports(self) -> list[int]:
        first, ports = self._options.port, list[int]()
        for n in range(self._options.n_edges):
            port = first + n if first else free_port(taken=set(ports))
            if not wait_until_free(port, patience_s=_PORT_PATIENCE_S, host=self._settings.edge.host):
                raise DevStackError(f"port {port} is in use; stop what listens there or choose another with --port")
            ports.append(port)
        return ports

    def _url(self, port: int) -> str:
        host = self._settings.edge.host
        return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::', ''} else host}:{port}"

    def _ready_files(self) -> list[Path]:
        """The one that was asked for, and the home's own, where `ragline ask` in the same folder looks."""
        asked, own = self._options.ready_file, self._home / ready_file.IN_HOME
        return [own] if asked is None or asked.resolve() == own else [asked, own]

    def _write_ready_files(self) -> None:
        """The files tell the truth from the first readiness on; called at each change."""
        if not self._is_ready:
            return
        report = ready_file.ReadyReport(
            base_url=self._url(self._ports[0]),
            api_key=self._secrets.api_key,
            admin_email=self._secrets.admin_email,
            admin_password=self._secrets.admin_password,
            kafka_bootstrap=self._kafka_bootstrap,
            postgres_dsn=self._postgres_dsn,
            home=str(self._home),
            processes=[_process(k.service, k.child) for k in self._keepers if k.child is not None],
        )
        for path in self._ready_files():
            ready_file.write(path, report)

    def _remove_ready_files(self) -> None:
        for path in self._ready_files():
            _remove(path)

    async def _shut_down(self) -> None:
        """Roles first, so that they can finish over living servers; at most 9 s in all."""
        self._is_ready = False
        self._narrator.progress("stopping")
        self._remove_ready_files()
        servers = [k for k in self._keepers if k.service.role in {"kafka", "postgres"}]
        await _stop_all([k for k in self._keepers if k not in servers], timeout_s=ROLES_STOP_S)
        await _stop_all(servers, timeout_s=SERVERS_STOP_S)
        self._spawner.close()
        self._narrator.settled()


def _remove(path: Path | None) -> None:
    try:
        if path is not None:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DevStackError(f"ready file {path} cannot be written ({error.strerror})") from None


async def _stop_all(keepers: Sequence[Keeper], *, timeout_s: float) -> None:
    stopping = []
    for keeper in keepers:
        if keeper.child is not None:
            keeper.child.send(signal.SIGCONT)
            stopping.append(keeper.child.stop(keeper.service.stop_signal, timeout_s=timeout_s))
    await asyncio.gather(*stopping)


def _process(service: Service, child: Child) -> ready_file.RunningProcess:
    if service.url is None:
        return {"role": service.role, "pid": child.pid}
    return {"role": service.role, "pid": child.pid, "url": service.url}


def _first(failures: BaseExceptionGroup[DevStackError | OSError]) -> DevStackError:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, DevStackError) else DevStackError(str(error))
