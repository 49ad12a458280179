"""`/metrics` and `/health/…` of workers and relay, which serve nothing else: on a port of their own, by setting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn

from ragline.quiet_server import QuietServer, bind
from telemetry.metrics import SERVICE_HEALTH, exposition

EVERY_S = 2.0
ANSWER_WITHIN_S = 1.5
FRESH_FOR_S = 3 * EVERY_S
OK = "ok"

Check = Callable[[], Awaitable[str]]
"""`ok`, or what is missing, in a few words."""


class Status:
    """Keeps asking what the process needs. One check at a time: what hangs is not asked again until it answers."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._found: dict[str, str] = {"start": "has not ended"}
        self._asked_at = time.monotonic()

    def add(self, service: str, check: Check) -> None:
        """One more part that must answer."""
        self._checks[service] = check
        self._found[service] = "not asked yet"

    def started(self) -> None:
        """Everything runs."""
        del self._found["start"]

    @property
    def checks(self) -> dict[str, str]:
        """The newest answers, by part."""
        if time.monotonic() - self._asked_at > FRESH_FOR_S:
            return {**self._found, "probe": "no answer for too long"}
        return dict(self._found)

    async def run(self) -> None:
        """Asks until it is cancelled."""
        try:
            while True:
                await self.ask()
                await asyncio.sleep(EVERY_S)
        finally:
            for task in self._asking.values():
                task.cancel()
            await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def ask(self, *, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        """One round."""
        for service, check in self._checks.items():
            if service not in self._asking:
                self._asking[service] = asyncio.create_task(_asked(check), name=f"asks {service}")
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=answer_within_s)
        for service, task in list(self._asking.items()):
            found = "does not answer"
            if task.done():
                found = self._asking.pop(service).result()
            self._found[service] = found
            SERVICE_HEALTH.labels(service).set(found == OK)
        self._asked_at = time.monotonic()

    async def __call__(
        self, scope: MutableMapping[str, Any], _: object, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """ASGI 3: three addresses."""
        status, media_type, body = 404, "application/json", b'{"status":"not_found"}'
        match scope.get("path"):
            case "/metrics":
                body, media_type = exposition()
                status = 200
            case "/health/live":
                status, body = 200, b'{"status":"live"}'
            case "/health/ready":
                checks = self.checks
                is_ready = all(found == OK for found in checks.values())
                status = 200 if is_ready else 503
                body = orjson.dumps({"status": "ready" if is_ready else "unavailable", "checks": checks})
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _asked(check: Check) -> str:
    """A check that fails is an answer, too."""
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - the probe's border: the answer says which error it was
        return f"cannot be asked: {type(error).__name__}"


@asynccontextmanager
async def status_page(port: int, host: str = "127.0.0.1") -> AsyncIterator[Status]:
    """Serves the process's status while the block runs; nothing if `port` is 0. Raises: SettingsError."""
    status = Status()
    if port == 0:
        yield status
        return
    listener = bind(host, port, setting="telemetry.metrics_port", advice="choose another")
    config = uvicorn.Config(status, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = QuietServer(config)
    tasks = [asyncio.create_task(status.run()), asyncio.create_task(server.serve(sockets=[listener]))]
    try:
        yield status
    finally:
        server.should_exit = True
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
