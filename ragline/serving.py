"""Runs the edge under uvicorn, in this process, on a port that was bound before anything else was tried."""

from __future__ import annotations

import asyncio
from typing import Protocol

import uvicorn

from ragline.quiet_server import QuietServer, bind
from ragline.settings import Settings
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


async def serve_edge(settings: Settings, *, host: str, port: int, ending: EndsTheProcess) -> None:
    """Serves until `ending`; streams are told why, then the port is closed. Raises: SettingsError."""
    listener = bind(host, port, setting="edge.port", advice="choose another with --port")
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
            server = QuietServer(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            app.stop_streams()
            server.should_exit = True
            await serving
    finally:
        stop.cancel()
        listener.close()
