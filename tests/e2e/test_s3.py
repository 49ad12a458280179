"""The whole of Ragline with its blobs and vectors on S3: upload, search, ask, download; and its doctor."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consumers.relay.lags import GROUPS
from ragline.settings import Settings
from ragline.wiring.blobs import blob_store_at
from storage.log.topic_admin import open_admin
from tests.s3_front import s3_front
from tests.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.stack import DevStack, running

pytestmark = pytest.mark.timeout(300)

TEXT = "The lighthouse keeper trims the wick at dusk. The lamp burns seal oil until the morning.\n"
ON_S3 = f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def stack(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with s3_front(s3_server) as front:
        env = {
            "RAGLINE_BLOBS": f"{ON_S3}/blobs",
            "RAGLINE_VECTORS": f"{ON_S3}/vectors",
            "RAGLINE_S3_ENDPOINT": front.endpoint,
            "RAGLINE_S3_PUBLIC_ENDPOINT": s3_server.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with running(tmp_path_factory.mktemp("s3"), env=env) as started:
            yield started


@pytest.fixture
def document(stack: DevStack) -> str:
    """The id of an indexed document."""
    path = stack.folder / "keeper.txt"
    path.write_text(TEXT)
    done = stack.ragline("upload", "--json", path)
    assert done.returncode == 0, done.stdout + done.stderr + stack.log()
    line = json.loads(done.stdout)
    assert line["status"] == "indexed"
    return str(line["document_id"])


async def keys_below(url: str, endpoint: str) -> list[str]:
    store = blob_store_at(Settings(s3_endpoint=endpoint), url)
    keys = [key async for key in store.list_keys("")]
    await store.close()
    return keys


def test_a_document_on_s3_is_found_downloaded_and_well(stack: DevStack, document: str, s3: S3Server) -> None:
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=20) as client:
        found = client.post("/api/v1/search", json={"query": "What does the lamp burn?"}).json()["items"]
        assert [one["document_id"] for one in found] == [document]
        sent = client.get(f"/api/v1/documents/{document}/content")
        assert (sent.status_code, sent.headers["cache-control"]) == (302, "no-store")
    address = sent.headers["location"]
    assert address.startswith(f"{s3.endpoint}/{BUCKET}/")
    got = httpx.get(address)  # without the key
    assert (got.status_code, got.text) == (200, TEXT)
    assert got.headers["content-disposition"].startswith('attachment; filename="keeper.txt"')
    assert asyncio.run(keys_below(f"{ON_S3}/blobs", s3.endpoint))
    assert any(".lance/" in key for key in asyncio.run(keys_below(f"{ON_S3}/vectors", s3.endpoint)))
    assert not (stack.home / "blobs").exists()
    assert not (stack.home / "vectors").exists()

    ended = stack.ragline("doctor", "--json", "--bundle", "report.tar.gz")
    checks = {one["name"]: one for one in json.loads(ended.stdout)["checks"]}
    assert ended.returncode == 0, ended.stdout
    assert {name: one for name, one in checks.items() if one["status"] != "ok"}.keys() <= {
        "disk.blobs", "disk.vectors", "disk.home", "disk.kafka", "open_files", "collector",
    }, ended.stdout  # fmt: skip
    for name in ("blobs.race", "vectors.race", "relay", "workers", "edges", "embedding", "kafka.lag", "outbox"):
        assert checks[name]["status"] == "ok", checks[name]
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert [name for name in checks if f"`{name}`" not in page] == [], "docs/doctor.md has every check"

    held = json.loads((stack.home / "secrets.json").read_text())
    told = gzip.decompress((stack.folder / "report.tar.gz").read_bytes()).decode()
    assert "ragline-doctor/logs/worker-1.log" in told
    for secret in (*held.values(), SECRET_KEY, TEXT.strip(), "keeper.txt"):
        assert secret not in told
        assert secret not in ended.stdout


def test_every_group_that_reads_is_known(stack: DevStack) -> None:
    async def groups() -> set[str]:
        async with open_admin(stack.report()["kafka_bootstrap"]) as admin:
            return {name for name, *_ in await admin.list_consumer_groups()}

    assert asyncio.run(groups()) == {group for group, _ in GROUPS}
