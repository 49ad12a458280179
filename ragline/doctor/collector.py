"""The collector of traces, where one is set."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp

from ragline.doctor.findings import Finding, Patient

ANSWER_WITHIN_S = 5.0


async def collector(patient: Patient) -> AsyncGenerator[Finding, None]:
    """An export of no traces."""
    endpoint = patient.settings.telemetry.otlp_endpoint
    if not endpoint:
        yield Finding("collector", "skipped", "no traces are exported")
        return
    url = f"{endpoint.rstrip('/')}/v1/traces"
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    headers = {"content-type": "application/x-protobuf"}
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, headers=headers) as response:
            found, is_taken = f"{url} answered {response.status}", response.ok
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        found, is_taken = f"{url}: {error!r}", False
    remedy = "" if is_taken else "Start the collector, or set RAGLINE_TELEMETRY__OTLP_ENDPOINT to its address."
    yield Finding("collector", "ok" if is_taken else "warning", found, remedy)
