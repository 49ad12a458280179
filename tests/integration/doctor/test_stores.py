"""Stores that keep and break what Ragline needs of them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ragline.doctor import stores
from ragline.doctor.findings import Finding, Group, Patient, examine
from ragline.doctor.stores import blobs, vectors
from ragline.settings import Settings
from ragline.wiring.blobs import build_blobs
from tests.full_disk import full_disk
from tests.s3_front import S3Front, s3_front
from tests.s3_server import BUCKET, S3Server

GROUPS = [Group("blobs", blobs, "set blobs"), Group("vectors", vectors, "set vectors")]


async def found(settings: Settings) -> dict[str, Finding]:
    return {one.name: one for one in await examine(Patient(settings), GROUPS)}


@pytest.fixture
def front(s3: S3Server) -> Iterator[S3Front]:
    with s3_front(s3) as running:
        yield running


def on_s3(front: S3Front) -> Settings:
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return Settings(blobs=f"{url}/blobs", vectors=f"{url}/vectors", s3_endpoint=front.endpoint)


async def left_on_s3(settings: Settings) -> list[str]:
    opened = [build_blobs(settings), build_blobs(settings.model_copy(update={"blobs": settings.vectors}))]
    keys = [key for store in opened async for key in store.list_keys("")]
    for store in opened:
        await store.close()
    return keys


def test_folders_are_well_and_nothing_is_left(tmp_path: Path) -> None:
    findings = asyncio.run(found(Settings(home=tmp_path)))
    assert {name: one.status for name, one in findings.items()} == dict.fromkeys(
        ("blobs", "blobs.race", "vectors", "vectors.race"), "ok"
    ), findings
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not list(tmp_path.glob("*/doctor*"))


async def test_a_store_with_conditional_writes_is_well_and_nothing_is_left(front: S3Front) -> None:
    settings = on_s3(front)
    findings = await found(settings)
    assert {one.status for one in findings.values()} == {"ok"}, findings
    assert len(findings) == 4
    assert await left_on_s3(settings) == []


async def test_a_store_that_drops_the_condition_is_wrong(front: S3Front) -> None:
    front.conditions = "dropped"
    settings = on_s3(front)
    findings = await found(settings)
    for name in ("blobs.race", "vectors.race"):
        assert findings[name].status == "wrong"
        assert findings[name].found == "16 of 16 writers of one key were told that they were the first"
        assert "If-None-Match" in findings[name].remedy
    assert findings["blobs"].status == "ok"
    assert await left_on_s3(settings) == []


async def test_a_silent_store_holds_nobody_up(front: S3Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.is_silent = True
    monkeypatch.setattr(stores, "CLEAN_UP_WITHIN_S", 0.1)
    began_s = time.monotonic()
    findings = await examine(Patient(on_s3(front)), [replace(group, within_s=0.5) for group in GROUPS])
    assert {(one.name, one.status, one.found) for one in findings} == {
        (name, "wrong", "no answer within 0.5 s") for name in ("blobs", "vectors")
    }
    assert time.monotonic() - began_s < 15.0, "not as long as the clients would try"


async def test_a_bucket_that_is_not_there(front: S3Front) -> None:
    settings = on_s3(front)
    absent = settings.model_copy(update={"blobs": "s3://no-such-bucket/blobs"})
    findings = await found(absent)
    assert findings["blobs"].status == "wrong"
    assert "no-such-bucket" in findings["blobs"].found
    assert findings["blobs"].remedy == "set blobs"
    assert findings["vectors.race"].status == "ok", "the other store is examined all the same"


async def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    with full_disk(1024):
        findings = {one.name: one for one in await examine(Patient(Settings(home=tmp_path)), GROUPS[:1])}
    assert (findings["blobs"].status, findings["blobs"].remedy) == ("wrong", "Free some space where the store is.")
    assert "full" in findings["blobs"].found
