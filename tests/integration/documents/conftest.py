"""A room a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from tests.integration.documents.room import Room, open_room


@pytest.fixture
async def room(servers: EmbeddedServers, dsn: str, tmp_path: Path) -> AsyncIterator[Room]:
    """Stores of this test's own over the shared servers."""
    async with open_room(dsn, servers.kafka_bootstrap, tmp_path) as opened:
        yield opened
