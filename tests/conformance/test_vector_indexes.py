"""One suite over every adapter of `VectorIndex`."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ragline.settings import Settings
from ragline.wiring.stores import build_vectors
from schemas.errors import Retry
from storage.ports import VectorIndex, VectorRow
from storage.vectors.lance import LanceVectorIndex
from tests.fakes.vector_index import MemoryVectorIndex
from tests.s3_server import BUCKET, S3Server

DIMENSIONS = 16
TABLE = "tenant_model_16"
Batch = tuple[list[VectorRow], npt.NDArray[np.float32]]


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


def vector(seed: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def batch(name: str, texts: Sequence[str], *, document: str = "doc", first: int = 0, seed: int = 0) -> Batch:
    rows = [VectorRow(f"{document}-p{first + i}", document, 1, name, first + i, text) for i, text in enumerate(texts)]
    return rows, np.stack([vector(seed + first + i) for i in range(len(texts))])


async def by_text(index: VectorIndex, query: str, *, limit: int = 5, documents: list[str] | None = None) -> list[str]:
    legs = await index.search(TABLE, vector=None, text=query, limit=limit, document_ids=documents)
    assert set(legs) == {"text"}
    scores = [hit.score for hit in legs["text"]]
    assert scores == sorted(scores, reverse=True)
    return [hit.passage_id for hit in legs["text"]]


async def by_vector(
    index: VectorIndex, query: npt.NDArray[np.float32], *, limit: int = 5, documents: list[str] | None = None
) -> list[str]:
    legs = await index.search(TABLE, vector=query, text=None, limit=limit, document_ids=documents)
    assert set(legs) == {"vector"}
    scores = [hit.score for hit in legs["vector"]]
    assert scores == sorted(scores, reverse=True)
    return [hit.passage_id for hit in legs["vector"]]


async def write(index: VectorIndex, *batches: Batch) -> None:
    await index.replace_batches(TABLE, batches, dimensions=DIMENSIONS)


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


OTHER_PROCESS = """
import asyncio, sys
import numpy as np
from storage.ports import VectorRow
from storage.vectors.lance import LanceVectorIndex

async def main():
    index = LanceVectorIndex(sys.argv[1])
    for line in sys.stdin:
        what, text = line.split(" ", 1)
        if what == "drop":
            await index.drop(sys.argv[2])
        else:
            rows = [VectorRow(what, "doc", 1, what, 0, text)]
            await index.replace_batches(sys.argv[2], [(rows, np.eye(1, 16, dtype=np.float32))], dimensions=16)
        print("done", flush=True)

asyncio.run(main())
"""


async def test_lance_sees_what_another_process_does_at_once(tmp_path: Path) -> None:
    url = str(tmp_path / "vectors")
    index = LanceVectorIndex(url)
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER_PROCESS, url, TABLE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None

    async def tell(line: str) -> None:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(f"{line}\n".encode())
        assert await other.stdout.readline() == b"done\n"

    try:
        assert await by_text(index, "word") == []
        for i in range(1, 4):
            await tell(f"p{i} word")
            assert await index.count(TABLE) == i
            assert len(await by_text(index, "word")) == i
        await tell("drop it")
        assert (await index.count(TABLE), await by_text(index, "word")) == (0, [])
        await tell("p9 word again")
        assert await by_text(index, "word") == ["p9"]
        await write(index, batch("b0", ["word of mine"]))
        assert await index.count(TABLE) == 2
    finally:
        other.stdin.close()
        await other.wait()
        await index.close()


async def test_lance_stems_english_and_keeps_small_words(tmp_path: Path) -> None:
    index = LanceVectorIndex(str(tmp_path))
    await write(index, batch("b0", ["the trace is recorded", "to be or not to be"]))
    assert await by_text(index, "recording traces") == ["doc-p0"]
    assert (await by_text(index, "not to be"))[0] == "doc-p1"
    await index.close()


async def test_lance_opens_only_so_many_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.vectors.lance.MAX_OPEN_TABLES", 3)
    index = LanceVectorIndex(str(tmp_path))
    for i in range(6):
        await index.replace_batches(f"t{i}", [batch("b0", [f"word{i}"])], dimensions=DIMENSIONS)
    assert [await index.count(f"t{i}") for i in range(6)] == [1] * 6
    assert len(index._tables) == 3
    await index.close()


async def test_lance_completes_a_table_whose_creator_died(tmp_path: Path) -> None:
    import lancedb

    from storage.vectors.lance import schema

    connection = await lancedb.connect_async(str(tmp_path))
    await connection.create_table(TABLE, schema=schema(DIMENSIONS))
    index = LanceVectorIndex(str(tmp_path))
    assert await by_text(index, "word") == []
    await write(index, batch("b0", ["word"]))
    assert await by_text(index, "word") == ["doc-p0"]
    await index.close()


def crowd(n: int, dimensions: int = DIMENSIONS) -> Batch:
    """Vectors around a hundred centres; fifty documents in turn."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(100, dimensions))
    vectors = (centres[random.integers(0, 100, n)] + 0.7 * random.normal(size=(n, dimensions))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [VectorRow(f"p{i}", f"d{i % 50}", 1, "b0", i, "x") for i in range(n)], vectors


async def recall(index: VectorIndex, vectors: npt.NDArray[np.float32]) -> float:
    found = 0
    for query in vectors[:50]:
        wanted = {f"p{i}" for i in np.argsort(-(vectors @ query))[:10]}
        found += len(wanted & set(await by_vector(index, query, limit=10)))
    return found / 500


async def index_type(folder: Path) -> str | None:
    import lancedb

    opened = await (await lancedb.connect_async(str(folder))).open_table(TABLE)
    stats = await opened.index_stats("vector_idx")
    return stats.index_type if stats else None


async def test_lance_recall_with_the_vector_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 4_000)
    caplog.set_level("INFO", "storage.vectors.nearest")
    rows, vectors = crowd(5_000)
    index = LanceVectorIndex(str(tmp_path))
    await write(index, (rows[:3_999], vectors[:3_999]))
    await index.optimize(TABLE)
    assert (await index_type(tmp_path), caplog.messages) == (None, [])
    await write(index, (rows, vectors))
    await index.optimize(TABLE)
    assert await index_type(tmp_path) == "IVF_RQ"
    (told,) = caplog.messages
    assert told.startswith("recall@10 0.9"), told
    assert f"{TABLE}, 5000 rows" in told
    assert await recall(index, vectors) > 0.95
    legs = await index.search(TABLE, vector=vectors[0], text=None, limit=60)
    exact = vectors[[int(hit.passage_id[1:]) for hit in legs["vector"]]] @ vectors[0]
    assert np.allclose([hit.score for hit in legs["vector"]], exact, atol=0.02)
    own = await by_vector(index, vectors[0], limit=100, documents=["d7"])
    assert own == [f"p{i}" for i in 7 + 50 * np.argsort(-(vectors[7::50] @ vectors[0]))]
    await index.close()


async def test_lance_finds_vectors_behind_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 1_000)
    index = LanceVectorIndex(str(tmp_path))
    await write(index, crowd(1_000))
    await index.optimize(TABLE)
    await write(index, batch("b1", ["one", "two"], document="new"))
    for is_optimized in (False, True):
        assert [(await by_vector(index, vector(i), limit=1)) for i in range(2)] == [["new-p0"], ["new-p1"]]
        if not is_optimized:
            await index.optimize(TABLE)
    await index.delete_documents(TABLE, ["new"])
    assert not {"new-p0", "new-p1"} & set(await by_vector(index, vector(0), limit=100))
    await index.close()


@pytest.mark.parametrize("reason", ["it finds too little", "its codes do not fit the dimensions"])
async def test_lance_has_an_exact_vector_index_where_the_approximate_one_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 2_000)
    finds_too_little = reason == "it finds too little"
    if finds_too_little:
        monkeypatch.setattr("storage.vectors.nearest.MIN_RECALL", 1.01)
    rows, vectors = crowd(2_000, dimensions := DIMENSIONS if finds_too_little else DIMENSIONS + 1)
    index = LanceVectorIndex(str(tmp_path))
    await index.replace_batches(TABLE, [(rows, vectors)], dimensions=dimensions)
    await index.optimize(TABLE)
    assert await index_type(tmp_path) == "IVF_FLAT"
    assert [record.levelname for record in caplog.records] == (["WARNING"] if finds_too_little else [])
    assert await recall(index, vectors) == 1
    await index.close()


async def test_lance_measures_an_index_whose_builder_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 2_000)
    index = LanceVectorIndex(str(tmp_path))
    await write(index, crowd(2_000))

    async def dies(*_: object) -> float:
        raise OSError("the process ends here")

    with monkeypatch.context() as patched:
        patched.setattr("storage.vectors.nearest.recall", dies)
        with pytest.raises(Retry):
            await index.optimize(TABLE)
    assert await index_type(tmp_path) == "IVF_RQ"
    await index.close()
    monkeypatch.setattr("storage.vectors.nearest.MIN_RECALL", 1.01)
    again = LanceVectorIndex(str(tmp_path))
    await again.optimize(TABLE)
    assert await index_type(tmp_path) == "IVF_FLAT"
    await again.close()


async def test_lance_rows_with_one_text_are_no_want_of_recall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the rows say one of five things, as footers do: any ten of those are the nearest."""
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 9_000)
    rows, vectors = crowd(9_000)
    vectors[::2] = vectors[np.arange(len(rows) // 2) % 5 * 2]
    index = LanceVectorIndex(str(tmp_path))
    for start in range(0, len(rows), 1_000):
        some = slice(start, start + 1_000)
        await write(index, ([replace(row, batch_id=f"b{start}") for row in rows[some]], vectors[some]))
    await index.optimize(TABLE)
    assert await index_type(tmp_path) == "IVF_RQ"
    await index.close()
