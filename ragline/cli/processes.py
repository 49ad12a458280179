"""`ragline edge | worker | relay`: one process of one role, until a signal or an error that a new process mends."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from ragline.logs import configure

STOPPED_BY_ERROR = 3

ReadyTouch = Annotated[
    Path | None, typer.Option("--ready-touch", metavar="FILE", help="Create this file when the process is ready.")
]


class Ending:
    """Why the process ends: a signal (exit code 0) or an error (3)."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self.error: BaseException | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)

    def fail(self, error: BaseException) -> None:
        """The process must end loudly."""
        logging.getLogger("ragline").critical("stopping: %s", error, exc_info=error)
        self.error = self.error or error
        self._ended.set()

    async def wait(self) -> None:
        """Returns when it is time to stop."""
        await self._ended.wait()

    def exit_code(self) -> int:
        """0 after a signal, 3 after an error."""
        return STOPPED_BY_ERROR if self.error is not None else 0


def _run(main: Coroutine[Any, Any, int]) -> int:
    """The process's loop: uvloop where there is one; the collector looks away from what is there for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 100)
    try:
        from uvloop import run
    except ImportError:
        return asyncio.run(main)
    return run(main)


def worker(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Consumers to run: transcript, completions, documents, index, message_search. [all]"),
    ] = None,
    *,
    ready_touch: ReadyTouch = None,
) -> None:
    """Run consumers in one process."""
    from ragline.settings import load_settings
    from ragline.wiring.worker import CONSUMERS, Worker

    unknown = [name for name in names or () if name not in CONSUMERS]
    if unknown:
        raise typer.BadParameter(f'there is no consumer "{unknown[0]}"; known: {", ".join(CONSUMERS)}')
    settings = load_settings()
    configure("worker", level=settings.log_level, form=settings.log_format)

    async def run() -> int:
        ending = Ending()
        running = Worker(settings, names or (), ending.fail)
        starting = asyncio.create_task(running.start())
        stop = asyncio.create_task(ending.wait())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        try:
            if starting.done():
                starting.result()
                if ready_touch is not None:
                    ready_touch.touch()
                await stop
            else:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        finally:
            await running.stop()
        return ending.exit_code()

    raise typer.Exit(_run(run()))


def relay(*, ready_touch: ReadyTouch = None) -> None:
    """Publish what a worker committed but died before publishing; one relay is active, others wait."""
    from ragline.settings import load_settings
    from ragline.wiring.relay import relaying

    settings = load_settings()
    configure("relay", level=settings.log_level, form=settings.log_format)

    async def run() -> int:
        ending = Ending()
        async with relaying(settings, ending.fail):
            if ready_touch is not None:
                ready_touch.touch()
            await ending.wait()
        return ending.exit_code()

    raise typer.Exit(_run(run()))


def edge(
    *,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on. [default: 8080]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
) -> None:
    """Serve HTTP: accept commands, stream answers."""
    from ragline.serving import serve_edge
    from ragline.settings import load_settings

    settings = load_settings()
    configure("edge", level=settings.log_level, form=settings.log_format)

    async def run() -> int:
        ending = Ending()
        await serve_edge(settings, host=host or settings.edge.host, port=port or settings.edge.port, ending=ending)
        return ending.exit_code()

    raise typer.Exit(_run(run()))
