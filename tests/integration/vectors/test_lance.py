"""What is LanceDB's own: other processes, open tables, the index of vectors and its recall."""

from __future__ import annotations

import asyncio
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ragline.settings import Settings
from ragline.wiring.vectors import build_vectors
from schemas.errors import Retry
from storage.ports import VectorIndex, VectorRow
from storage.vectors.lance import LanceVectorIndex
from tests.conformance.vector_rows import DIMENSIONS, TABLE, Batch, batch, by_text, by_vector, vector, write
from tests.s3_server import BUCKET, S3Server

OTHER_PROCESS = """
import asyncio, sys
import numpy as np
from storage.ports import VectorRow
from ragline.settings import Settings
from ragline.wiring.vectors import build_vectors
from storage.vectors.lance import LanceVectorIndex
from tests.s3_server import BUCKET, S3Server

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


@pytest.mark.parametrize("where", ["in a folder", "on s3"])
async def test_rows_come_while_the_table_is_optimized(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Both the rows and the optimized table stand: the writer waits for nobody (`consumers.index.table_locks`)."""
    monkeypatch.setattr("storage.vectors.lance.FLAT_BELOW", 5_000)
    folder = str(tmp_path) if where == "in a folder" else f"s3://{BUCKET}/{uuid.uuid4().hex}"
    settings = Settings(vectors=folder, s3_endpoint=s3.endpoint)
    index, other = build_vectors(settings), build_vectors(settings)
    rows, vectors = crowd(10_000)
    for start in range(0, len(rows), 500):
        some = slice(start, start + 500)
        await write(other, ([replace(row, batch_id=f"b{start}") for row in rows[some]], vectors[some]))
    optimizing, n = asyncio.create_task(index.optimize(TABLE)), 0
    while not optimizing.done():
        await write(other, batch(f"new{n}", ["word"], document=f"new{n}"))
        n += 1
    await optimizing
    assert n > 1
    assert await other.count(TABLE) == await index.count(TABLE) == len(rows) + n
    assert len(await by_text(index, "word", limit=n + 1)) == n
    await index.optimize(TABLE)
    assert len(await by_text(other, "word", limit=n + 1)) == n
    await index.close()
    await other.close()


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
