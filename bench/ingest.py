"""*ingest*: from the upload to the last passage that can be searched, against the bare work on the same files.

Bare: each file is read with the same parsers, cut into passages and embedded, one after another; nothing is isolated,
checkpointed, stored or indexed. Ours: uploads through the API, until each is `indexed`.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Row, Sides, alternate, at_least, number, percentile
from bench.stack import Stack
from bench.texts import MAKERS, prose
from consumers.documents.parse.document import ParseLimits
from consumers.documents.parse.formats import parse
from consumers.documents.passages import split_into_passages
from providers.embeddings import WordLlamaEmbedder
from providers.tokens import TiktokenCounter
from ragline.client.connection import Connection
from ragline.client.target import Target
from ragline.client.uploads import Uploaded, upload_all

N_FILES, N_PAGES = 12, 60
N_LONG, N_SMALL = 600, 1_000
N_OF_A_FORMAT = 4
_MIXED = ("pdf", "md", "html")


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *ingest*."""
    embedder = WordLlamaEmbedder()
    await embedder.start()
    target = Target((f"http://{stack.address[0]}:{stack.address[1]}",), stack.api_key)
    try:
        with tempfile.TemporaryDirectory(prefix="ragline-bench-") as name:
            async with Connection(target) as connection:
                files, bare = Files(Path(name), connection), Bare(embedder)
                return [
                    await _mixed(files, bare, n_rounds),
                    await _long(files, bare, n_rounds),
                    await _small(files),
                    *[await _format(files, bare, kind) for kind in MAKERS],
                ]
    finally:
        await embedder.close()


class Bare:
    """The work itself, and nothing else."""

    def __init__(self, embedder: WordLlamaEmbedder) -> None:
        self._embedder = embedder
        self._counter = TiktokenCounter()

    async def learn(self, paths: Sequence[Path]) -> float:
        """Passages a second."""
        began, n_passages = time.perf_counter(), 0
        for path in paths:
            texts = await asyncio.to_thread(self._read, path)
            await self._embedder.embed(texts)
            n_passages += len(texts)
        return n_passages / (time.perf_counter() - began)

    def _read(self, path: Path) -> list[str]:
        document = parse(path, name=path.name, media_type=None, limits=ParseLimits())
        spans = split_into_passages(document, self._counter)
        return [document.text[span.start : span.end] for span in spans]


class Files:
    """Makes files that nobody has seen, and uploads them."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        self._folder = folder
        self._connection = connection
        self._chance = random.Random(7)
        self._n = 0

    def make(self, n: int, n_pages: int, *, kinds: Sequence[str] = _MIXED) -> list[Path]:
        """`n` files of these kinds in turn."""
        paths = []
        for _ in range(n):
            kind = kinds[self._n % len(kinds)]
            paths.append(self.write(f"{self._n}.{kind}", MAKERS[kind](self._chance, n_pages)))
        return paths

    def small(self, n: int) -> list[Path]:
        """Notes of some hundred words."""
        return [self.write(f"{self._n}.txt", prose(self._chance, 120).encode()) for _ in range(n)]

    def write(self, name: str, data: bytes) -> Path:
        """A file."""
        self._n += 1
        path = self._folder / name
        path.write_bytes(data)
        return path

    async def learn(self, paths: Sequence[Path], *, done: Callable[[Uploaded], None] = lambda _: None) -> float:
        """Passages a second."""
        began = time.perf_counter()
        n_passages = await self.upload(paths, done=done)
        return n_passages / (time.perf_counter() - began)

    async def upload(self, paths: Sequence[Path], *, done: Callable[[Uploaded], None] = lambda _: None) -> int:
        """How many passages were learnt."""
        found = await upload_all(
            self._connection, paths, wait=True, tell=lambda *_: None, done=done, n_at_once=len(paths)
        )
        assert all(one.status == "indexed" for one in found), [one for one in found if one.status != "indexed"][:3]
        return sum(one.n_passages for one in found)


async def _both(files: Files, bare: Bare, n_rounds: int, make: Callable[[], list[Path]]) -> Sides:
    return await alternate(n_rounds, {"bare": lambda: bare.learn(make()), "ours": lambda: files.learn(make())})


async def _mixed(files: Files, bare: Bare, n_rounds: int) -> Row:
    found = await _both(files, bare, n_rounds, lambda: files.make(N_FILES, N_PAGES))
    measure = f"{N_FILES} files of {N_PAGES} pages (PDF, Markdown, HTML), vs bare"
    return at_least(
        "ingest", measure, ours=found["ours"], baseline=found["bare"], factor=0.85, unit="passages/s",
        note=f"rounds: {found.spread('ours')}",
    )  # fmt: skip


async def _long(files: Files, bare: Bare, n_rounds: int) -> Row:
    found = await _both(files, bare, n_rounds, lambda: files.make(1, N_LONG, kinds=("pdf",)))
    measure = f"one PDF of {N_LONG} pages, vs bare"
    return at_least("ingest", measure, ours=found["ours"], baseline=found["bare"], factor=0.85, unit="passages/s")


async def _small(files: Files) -> Row:
    paths = await asyncio.to_thread(files.small, N_SMALL)
    began, at_s = time.perf_counter(), list[float]()
    await files.learn(paths, done=lambda _: at_s.append(time.perf_counter() - began))
    note = f"the first after {number(at_s[0])} s, half after {number(percentile(at_s, 0.5))} s"
    rate = N_SMALL / at_s[-1]
    return Row("ingest", f"{N_SMALL:,} small files at once", "", "–", f"{number(rate)} files/s", "–", None, note)


async def _format(files: Files, bare: Bare, kind: str) -> Row:
    """Pages a second of one format, read and embedded alone, and until they can be searched."""
    took_s = {}
    for side, learn in (("bare", bare.learn), ("ours", files.learn)):
        paths = await asyncio.to_thread(files.make, N_OF_A_FORMAT, N_PAGES, kinds=(kind,))
        began = time.perf_counter()
        await learn(paths)
        took_s[side] = time.perf_counter() - began
    theirs, ours = (N_OF_A_FORMAT * N_PAGES / took_s[side] for side in ("bare", "ours"))
    measure = f"{N_OF_A_FORMAT} files of {N_PAGES} pages, {kind}"
    return Row(
        "ingest", measure, "", f"{number(theirs)} pages/s", f"{number(ours)} pages/s", number(ours / theirs), None
    )
