"""One suite over every adapter of `VectorIndex`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ragline.settings import Settings
from ragline.wiring.vectors import build_vectors
from storage.ports import VectorIndex
from storage.vectors.lance import LanceVectorIndex
from tests.conformance.vector_rows import DIMENSIONS, TABLE, batch, by_text, by_vector, vector, write
from tests.fakes.vector_index import MemoryVectorIndex
from tests.s3_server import BUCKET, S3Server


@pytest.fixture(params=["lance", "lance on s3", "memory"])
async def index(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> AsyncIterator[VectorIndex]:
    made: VectorIndex
    match request.param:
        case "lance":
            made = LanceVectorIndex(str(tmp_path / "vectors"))
        case "lance on s3":
            folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"
            made = build_vectors(Settings(vectors=folder, s3_endpoint=s3.endpoint))
        case _:
            made = MemoryVectorIndex()
    yield made
    await made.close()


async def test_an_absent_table_is_empty(index: VectorIndex) -> None:
    assert await index.search(TABLE, vector=vector(0), text="x", limit=3) == {"vector": [], "text": []}
    assert await index.count(TABLE) == 0
    await index.optimize(TABLE)
    await index.delete_documents(TABLE, ["doc"])
    await index.drop(TABLE)
    await write(index)
    assert await index.count(TABLE) == 0


async def test_both_legs_find_what_was_just_written(index: VectorIndex) -> None:
    await write(index, batch("b0", ["the loop gets hot", "a trace is recorded", "the machine bails out"]))
    legs = await index.search(TABLE, vector=vector(1), text="bails", limit=2)
    assert legs["vector"][0].passage_id == "doc-p1"
    assert legs["vector"][0].score == pytest.approx(1, abs=1e-4)
    assert len(legs["vector"]) == 2
    assert [hit.passage_id for hit in legs["text"]] == ["doc-p2"]


@pytest.mark.parametrize("is_optimized", [False, True])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("지진", 0), ("지진이 언제", 0), ("東京タワー", 1), ("タワーの高さ", 1), ("猫", 2),
        ("猫はどこ", 2), ("새벽은", 0), ("강은", 7), ("数据库", 3), ("如何扩展数据库", 3),
        ("Café", 4), ("CAFE", 4), ("RECORDED", 5), ("ｔｒａｃｅ", 5),
        ("แมว", 6),
    ],
)  # fmt: skip
async def test_text_is_found_in_any_script(
    index: VectorIndex, query: str, expected: int, *, is_optimized: bool
) -> None:
    texts = [
        "오늘 새벽에 지진은 규모 4로 기록되었다", "東京タワーは高さ三百三十三メートルである。", "吾輩は猫である。",
        "我们需要扩展数据库的容量。",
        "Das Café öffnet um neun.", "The trace is recorded once.", "แมวนั่งบนเสื่อ", "저 강을 건너",
    ]  # fmt: skip
    await write(index, batch("b0", texts))
    if is_optimized:
        await index.optimize(TABLE)
    assert (await by_text(index, query))[:1] == [f"doc-p{expected}"]


async def test_text_finds_rows_behind_the_index(index: VectorIndex) -> None:
    await write(index, batch("b0", [f"old passage {i}" for i in range(50)]))
    await index.optimize(TABLE)
    await write(index, batch("b1", ["a fresh zebra", "the zebra and an old passage"], first=50))
    assert set(await by_text(index, "zebra")) == {"doc-p50", "doc-p51"}
    assert await by_text(index, "passage", limit=3)
    await index.optimize(TABLE)
    assert set(await by_text(index, "zebra")) == {"doc-p50", "doc-p51"}


async def test_a_batch_replaces_itself(index: VectorIndex) -> None:
    await write(index, batch("b0", ["alpha one", "alpha two", "alpha three"]), batch("b1", ["beta"], first=10))
    await write(index, batch("b0", ["gamma one", "gamma two"], seed=100), batch("b2", ["delta"], first=20))
    assert await index.count(TABLE) == 4
    assert await by_text(index, "alpha") == []
    assert sorted(await by_text(index, "gamma")) == ["doc-p0", "doc-p1"]
    assert await by_text(index, "beta") == ["doc-p10"]
    assert (await by_vector(index, vector(100)))[0] == "doc-p0"
    await write(index, batch("b0", ["gamma one", "gamma two"], seed=100))
    assert await index.count(TABLE) == 4


async def test_replaced_rows_stay_replaced_after_optimize(index: VectorIndex) -> None:
    await write(index, batch("b0", ["alpha", "alpha beta"]))
    await index.optimize(TABLE)
    await write(index, batch("b0", ["gamma"]))
    assert await by_text(index, "alpha") == []
    await index.optimize(TABLE)
    assert (await by_text(index, "alpha"), await by_text(index, "gamma")) == ([], ["doc-p0"])


async def test_only_the_asked_documents(index: VectorIndex) -> None:
    for name in ("one", "two", "three"):
        await write(index, batch(name, ["the same words", f"word of {name}"], document=name))
    assert set(await by_text(index, "same", documents=["one", "three"])) == {"one-p0", "three-p0"}
    assert await by_text(index, "same", limit=1, documents=["two"]) == ["two-p0"]
    assert await by_vector(index, vector(0), documents=["two"]) == ["two-p0", "two-p1"]
    assert await by_vector(index, vector(0), documents=["absent"]) == []
    assert await by_vector(index, vector(0), documents=[]) == []


async def test_deleted_documents_are_gone(index: VectorIndex) -> None:
    await write(index, batch("one", ["word"], document="one"), batch("two", ["word"], document="two"))
    await index.delete_documents(TABLE, ["one", "absent"])
    await index.delete_documents(TABLE, ["one"])
    await index.delete_documents(TABLE, [])
    assert await by_text(index, "word") == ["two-p0"]
    assert await by_vector(index, vector(0)) == ["two-p0"]


async def test_what_differs_is_told_row_by_row(index: VectorIndex) -> None:
    b0, b1 = batch("b0", ["alpha one", "alpha two", "three"]), batch("b1", ["beta"], first=10)
    told = await index.differences(TABLE, [b0])
    assert [(one.passage_id, one.kind) for one in told] == [(f"doc-p{i}", "missing") for i in range(3)]
    assert (await index.batch_sizes(TABLE), await index.differences(TABLE, [])) == ({}, [])
    await index.delete_batches(TABLE, ["b0"])
    await write(index, b0, b1)
    assert await index.differences(TABLE, [b0, b1]) == []
    assert await index.batch_sizes(TABLE) == {"b0": 3, "b1": 1}
    turned, reworded = batch("b0", ["alpha one"], seed=50), batch("b0", ["alpha 2"], first=1)
    other = ([*turned[0], *reworded[0]], np.concatenate([turned[1], reworded[1]]))
    assert [(one.batch_id, one.passage_id, one.kind) for one in await index.differences(TABLE, [other])] == [
        ("b0", "doc-p0", "changed"),
        ("b0", "doc-p1", "changed"),
        ("b0", "doc-p2", "extra"),
    ]
    await index.delete_batches(TABLE, ["b0", "absent"])
    await index.delete_batches(TABLE, [])
    assert await index.batch_sizes(TABLE) == {"b1": 1}
    assert await index.differences(TABLE, [b1]) == []


async def test_odd_queries_find_nothing_and_break_nothing(index: VectorIndex) -> None:
    await write(index, batch("b0", ["word", "", "   ", "a 'quoted' \"phrase\" AND (more)", "\ud800 lone"]))
    for query in ("", "  ", "?!…", "* AND OR (", "'; DROP TABLE", "\ud800", "x" * 5_000, "\x00"):
        await by_text(index, query)
    assert await by_text(index, "\"quoted' phrase) OR (") == ["doc-p3"]
    assert await by_vector(index, vector(0), limit=0) == []
    assert await by_vector(index, np.zeros(DIMENSIONS, np.float32))


async def test_zero_vectors_come_last(index: VectorIndex) -> None:
    rows, vectors = batch("b0", ["a", "b", "c"])
    vectors[1] = 0
    vectors[2] = vectors[0] * 0.6 + np.sqrt(1 - 0.36) * _orthogonal(vectors[0])
    await write(index, (rows, vectors))
    assert await by_vector(index, vectors[0]) == ["doc-p0", "doc-p2", "doc-p1"]


def _orthogonal(to: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    other = vector(77)
    rest = other - (other @ to) * to
    return np.asarray(rest / np.linalg.norm(rest), np.float32)


async def test_wrong_shapes_are_refused_before_anything_is_written(index: VectorIndex) -> None:
    rows, vectors = batch("b1", ["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        await index.replace_batches(TABLE, [batch("b0", ["x"]), (rows, vectors[:1])], dimensions=DIMENSIONS)
    with pytest.raises(ValueError, match="shape"):
        await index.replace_batches(TABLE, [(rows, vectors)], dimensions=DIMENSIONS + 1)
    assert await index.count(TABLE) == 0


async def test_a_dropped_table_can_begin_again(index: VectorIndex) -> None:
    await write(index, batch("b0", ["old"]))
    await index.drop(TABLE)
    assert await index.count(TABLE) == 0
    assert await by_text(index, "old") == []
    await write(index, batch("b1", ["new"]))
    assert (await by_text(index, "old"), await by_text(index, "new")) == ([], ["doc-p0"])


async def test_tables_are_apart(index: VectorIndex) -> None:
    await write(index, batch("b0", ["mine"]))
    await index.replace_batches("other", [batch("b0", ["theirs"])], dimensions=DIMENSIONS)
    assert await by_text(index, "theirs") == []
    assert await index.count("other") == 1


async def test_readers_beside_a_writer_see_whole_batches(index: VectorIndex) -> None:
    await write(index, batch("b0", ["word"] * 20))
    is_done = asyncio.Event()
    counts: set[int] = set()

    async def read() -> None:
        while not is_done.is_set():
            counts.add(len(await by_text(index, "word", limit=100)))
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    for i in range(8):
        await write(index, batch("b0", ["word"] * 20, seed=i))
        await asyncio.sleep(0)
        if i == 4:
            await index.optimize(TABLE)
    is_done.set()
    await reader
    assert counts == {20}
