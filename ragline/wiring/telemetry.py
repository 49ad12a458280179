"""What a process tells of itself to others, where the settings want it: traces, error reports."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ragline import __version__
from ragline.logs import said_once
from ragline.settings import Settings, SettingsError, resolve_secret
from telemetry.metrics import SERVICE_DISK_FREE
from telemetry.tracing import trace_with


@asynccontextmanager
async def telling(settings: Settings, process: str) -> AsyncIterator[None]:
    """Traces and reports while the block runs; what is left is sent at its end. Raises: SettingsError."""
    told = settings.telemetry
    SERVICE_DISK_FREE.set_function(lambda: _free_ratio(settings.home))
    async with AsyncExitStack() as stack:
        if told.otlp_endpoint:
            from telemetry.otlp import OtlpTracer

            tracer = OtlpTracer(
                told.otlp_endpoint, service=f"ragline-{process}", version=__version__, ratio=told.trace_ratio
            )
            stack.push_async_callback(asyncio.to_thread, tracer.stop)
            stack.callback(trace_with, None)
            trace_with(tracer)
        dsn = resolve_secret(told.sentry_dsn, "telemetry.sentry_dsn")
        if dsn is not None:
            from telemetry.error_reports import ErrorReports

            try:
                reports = ErrorReports(dsn, process=process, version=__version__)
            except ValueError as error:
                raise SettingsError(f"setting telemetry.sentry_dsn: {error}") from None
            stack.push_async_callback(asyncio.to_thread, reports.stop)
            stack.callback(logging.getLogger().removeHandler, reports)
            logging.getLogger().addHandler(said_once(reports))
        yield


def _free_ratio(folder: Path) -> float:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return float("nan")
    return usage.free / usage.total
