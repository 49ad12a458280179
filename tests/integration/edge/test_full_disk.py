"""The blob store's disk is full: who uploads is told so, and nothing is left of what did not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.full_disk import full_disk
from tests.integration.edge.test_documents import blobs_in, upload
from tests.integration.edge.world import Person, RunningEdge

pytestmark = pytest.mark.usefixtures("consumers")

LARGE = b"%PDF " + b"x" * 600_000


async def test_what_does_not_fit_is_refused_and_leaves_nothing(
    edge: RunningEdge, somebody: Person, tmp_path: Path
) -> None:
    key = {"idempotency-key": "k"}
    async with edge.client(somebody) as client:
        with full_disk(256 * 1024):
            text = {"text": "x" * 400_000, "name": "a.txt"}
            for refused in (
                await upload(client, LARGE, headers=key),
                await client.post("/api/v1/documents", json=text),
            ):
                assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
                assert "nothing was kept" in refused.json()["detail"]
            assert blobs_in(tmp_path / "blobs") == []
            assert (await client.get("/api/v1/documents")).json()["items"] == []
            assert (await upload(client)).status_code == 202, "what fits is taken"
        accepted = await upload(client, LARGE, headers=key)
        assert (accepted.status_code, accepted.json()["size_bytes"]) == (202, len(LARGE))
        assert len(blobs_in(tmp_path / "blobs")) == 2
