"""Edges: whether each that is known says that it is ready."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp

from ragline import __version__
from ragline.doctor.findings import Finding, Patient

ANSWER_WITHIN_S = 5.0


async def edges(patient: Patient) -> AsyncGenerator[Finding, None]:
    """The edges of the `ragline dev` of the home, or of the setting `client.url`."""
    if not patient.edges:
        yield Finding("edges", "skipped", "no edge is known", "Set RAGLINE_CLIENT__URL to have one asked.")
        return
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for url in patient.edges:
            yield await _edge(session, url)


async def _edge(session: aiohttp.ClientSession, url: str) -> Finding:
    try:
        async with session.get(f"{url}/health") as response:
            health = await response.json()
            status, version, checks = health["status"], health["version"], health["checks"]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        found = f"{url} does not answer as an edge: {error!r}"
        return Finding("edges", "wrong", found, "Start `ragline edge`, or set RAGLINE_CLIENT__URL to its address.")
    if status != "ready":
        missing = ", ".join(f"{part}: {found}" for part, found in checks.items() if found != "ok")
        return Finding("edges", "wrong", f"{url} is not ready: {missing}", "Mend what the other checks name.")
    if version != __version__:
        found = f"{url} runs Ragline {version}, this is {__version__}"
        return Finding("edges", "warning", found, "Start it anew with this version, or use the doctor of its version.")
    return Finding("edges", "ok", f"{url} is ready")
