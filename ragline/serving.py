"""Runs the edge under uvicorn, in this process, on a port that was bound before anything else was tried."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Protocol

import uvicorn

from ragline.settings import Settings, SettingsError
from ragline.wiring.edge import edge_running

BACKLOG = 4096
GRACE_S = 3


class EndsTheProcess(Protocol):
    """Says when the process ends, and hears of an error that must end it."""

    def fail(self, error: BaseException) -> None:
        """The process must end."""
        ...

    async def wait(self) -> None:
        """Returns when it is time to stop."""
        ...


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The command handles signals itself."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises: SettingsError, one line, if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"setting edge.port: {host}:{port} cannot be used ({error.strerror}); choose another with --port"
        ) from None
    return listener


async def serve_edge(settings: Settings, *, host: str, port: int, ending: EndsTheProcess) -> None:
    """Serves until `ending`; streams are told why, then the port is closed. Raises: SettingsError."""
    listener = bind(host, port)
    stop = asyncio.create_task(ending.wait())
    try:
        async with edge_running(settings, ending.fail, stop) as app:
            if app is None:
                return
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
                server_header=False,
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            app.stop_streams()
            server.should_exit = True
            await serving
    finally:
        stop.cancel()
        listener.close()
