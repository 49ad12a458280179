"""Fixtures of the completions: workers on real servers, and a provider that speaks the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from tests.integration.completions.rig import Rig
from tests.provider_server import ProviderServer


@pytest.fixture
async def rig(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Where questions are asked and workers started."""
    async with Rig(servers.kafka_bootstrap, dsn, tmp_path) as ready:
        yield ready


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    """A provider whose rate and faults the test sets."""
    async with ProviderServer() as server:
        yield server
