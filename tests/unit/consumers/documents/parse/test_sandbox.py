"""The sandbox: whatever a file does to its parser, this process only gets a document or a reason."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from consumers.documents.parse.document import ParseFailed, ParseLimits
from consumers.documents.parse.formats import parse
from consumers.documents.parse.sandbox import Sandbox
from consumers.documents.passages import PassageSize, split_into_passages
from providers.tokens import TiktokenCounter
from schemas.errors import Retry
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.packed import SANDBOX, Content, packed, relationships

MEGABYTE = 1024 * 1024


async def failure(path: Path, limits: ParseLimits | None = None) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        await SANDBOX.read(path, name=path.name, media_type=None, limits=limits)
    assert caught.value.message.endswith(".")
    assert children() == []
    return caught.value


def children(pid: int | None = None) -> list[psutil.Process]:
    """The parsers that `pid` (this process) has running: what its fork server began."""
    found = []
    for server in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "consumers.documents.parse.fork_server" in server.cmdline():
                found += [parser for parser in server.children() if parser.status() != psutil.STATUS_ZOMBIE]
    return found


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that never gives its first byte."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return path


@pytest.fixture
async def hanging(endless: Path) -> AsyncIterator[tuple[asyncio.Task[object], psutil.Process]]:
    """A parse that does not end by itself, and its process."""
    task = asyncio.create_task(SANDBOX.read(endless, name="endless", media_type=None))
    while not children():
        await asyncio.sleep(0.01)
    yield task, children()[0]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_document_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "any.md"
    path.write_text("# Title\n\nText with 語 and \U0001f642.\n")
    document = await SANDBOX.read(path, name="any.md", media_type=None)
    assert document.text == "Title\n\nText with 語 and \U0001f642."
    assert (document.media_type, document.n_pages) == ("text/markdown", 0)
    (passage,) = document.passages
    assert (passage.page, passage.start, passage.end) == (None, 0, len(document.text))
    assert passage.heading_path == ("Title",)
    assert passage.n_tokens == TiktokenCounter().count(document.text)
    assert passage.content_hash == hashlib.sha256(document.text.encode()).hexdigest()


async def test_passages_are_those_of_the_document(samples: Samples) -> None:
    path, size = samples.path("two-column-paper.pdf"), PassageSize(60, 90)
    found = await SANDBOX.read(path, name=path.name, media_type=None, size=size)
    document = parse(path, name=path.name, media_type=None, limits=ParseLimits())
    assert (found.text, found.media_type, found.n_pages) == (document.text, document.media_type, document.n_pages)
    assert found.passages == split_into_passages(document, TiktokenCounter(), size)
    assert found.size == size


@dataclass
class Watched:
    """What this process does while the block runs; `longest_s` of CPU between two turns of the loop, 10 ms apart."""

    cpu_s: float = 0.0
    longest_s: float = 0.0
    growth_bytes: int = 0


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    seen, process = Watched(), psutil.Process()
    rss_bytes, began_s = process.memory_info().rss, time.process_time()

    async def watch() -> None:
        while True:
            at_s = time.process_time()
            await asyncio.sleep(0.01)
            seen.longest_s = max(seen.longest_s, time.process_time() - at_s)
            seen.growth_bytes = max(seen.growth_bytes, process.memory_info().rss - rss_bytes)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        seen.cpu_s = time.process_time() - began_s


@pytest.fixture
def swelling(tmp_path: Path) -> Path:
    """12 KB that unpack to two million characters: a moment to parse, seconds to cut."""
    paragraphs = b"<w:p><w:r><w:t>" + "語".encode() * 1000 + b"</w:t></w:r></w:p>"
    parts: dict[str, Content] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(officeDocument="word/document.xml"),
        "word/document.xml": [b'<w:document xmlns:w="w"><w:body>', *[paragraphs] * 2000, b"</w:body></w:document>"],
    }
    return packed(tmp_path / "swelling.docx", parts)


async def test_what_takes_long_to_cut_is_held_to_the_limits_too(swelling: Path) -> None:
    async with watched() as seen:
        assert (await failure(swelling, ParseLimits(cpu_s=1))).code == "timeout"
    assert seen.cpu_s < 0.5


async def test_who_reads_a_long_text_has_time_and_memory_for_others(swelling: Path) -> None:
    async with watched() as seen:
        found = await SANDBOX.read(swelling, name=swelling.name, media_type=None)
    assert len(found.text) > 2_000_000
    assert len(found.passages) > 5_000
    assert seen.cpu_s < 0.7
    assert seen.longest_s < 0.1
    assert seen.growth_bytes < 32 * MEGABYTE


async def test_a_large_text_does_not_block_the_pipes(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("A line of text.\n" * 300_000)
    document = await SANDBOX.read(path, name="large.txt", media_type=None)
    assert document.text.count("line") == 300_000


async def test_reasons_come_back(tmp_path: Path) -> None:
    path = tmp_path / "empty.pdf"
    path.write_bytes(b"")
    assert (await failure(path)).code == "empty_document"


async def test_text_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 1000)
    assert (await failure(path, ParseLimits(max_characters=4000))).code == "too_large_text"


async def test_wall_time_is_limited(endless: Path) -> None:
    started = time.monotonic()
    assert (await failure(endless, ParseLimits(wall_s=0.3))).code == "timeout"
    assert time.monotonic() - started < 5


async def test_cpu_time_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "wide.html"
    path.write_text("<html><body><table><tr>" + "<td>x1</td>" * 48_000 + "</tr></table><p>Hello</p>")
    assert (await failure(path, ParseLimits(cpu_s=1))).code == "timeout"


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit on memory")
async def test_memory_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("A line of text.\n" * 4_000_000)
    assert (await failure(path, ParseLimits(memory_bytes=100 * MEGABYTE))).code == "out_of_memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit on memory")
async def test_memory_of_native_code_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    path.write_bytes(of_one_page(128))
    assert (await failure(path, ParseLimits(memory_bytes=32 * MEGABYTE))).code == "out_of_memory"


async def test_a_crash_is_a_reason(hanging: tuple[asyncio.Task[object], psutil.Process]) -> None:
    task, process = hanging
    process.send_signal(signal.SIGSEGV)
    with pytest.raises(ParseFailed) as caught:
        await task
    assert caught.value.code == "parser_crashed"


async def test_cancellation_ends_the_parser(hanging: tuple[asyncio.Task[object], psutil.Process]) -> None:
    task, process = hanging
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not process.is_running()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the system does not show descriptors")
async def test_cancelled_at_any_moment_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "any.txt"
    path.write_text("Any text.")
    await SANDBOX.read(path, name=path.name, media_type=None)
    await asyncio.sleep(0)  # transports close their descriptors at the next turn of the loop
    before = len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240
    for n_steps in range(60):
        task = asyncio.create_task(SANDBOX.read(path, name=path.name, media_type=None))
        for _ in range(n_steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert children() == []
    await asyncio.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before  # noqa: ASYNC240


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the system does not show descriptors")
async def test_a_process_short_of_descriptors_blames_no_file_and_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "any.txt"
    path.write_text("Any text.")
    await SANDBOX.read(path, name=path.name, media_type=None)
    await asyncio.sleep(0)
    open_now = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}  # noqa: ASYNC240
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [n for n in range(max(open_now) + 9) if n not in open_now]
    try:
        for n_free in range(7):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[n_free], hard))
            with pytest.raises(Retry, match="no parser can be started"):
                await SANDBOX.read(path, name=path.name, media_type=None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (await SANDBOX.read(path, name=path.name, media_type=None)).text == "Any text."
    await asyncio.sleep(0)
    assert len({int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - open_now) <= 1  # noqa: ASYNC240


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the system does not show environments")
async def test_the_parser_sees_no_keys(hanging: tuple[asyncio.Task[object], psutil.Process]) -> None:
    _, process = hanging
    assert set(process.environ()) == {"PYTHONPATH", "LC_ALL", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}


def test_the_parser_dies_with_its_parent(endless: Path) -> None:
    script = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from consumers.documents.parse.sandbox import Sandbox
        asyncio.run(Sandbox().read(Path({str(endless)!r}), name="endless", media_type=None))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        deadline = time.monotonic() + 20
        while not (found := children(parent.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        parent.kill()
    _, alive = psutil.wait_procs(found, timeout=10)
    assert found
    assert not alive


async def test_a_dead_server_takes_its_parsers_along_and_is_replaced(
    hanging: tuple[asyncio.Task[object], psutil.Process], tmp_path: Path
) -> None:
    task, process = hanging
    (server,) = (p for p in psutil.Process().children() if "consumers.documents.parse.fork_server" in p.cmdline())
    server.kill()
    with pytest.raises(Retry, match="fork server died"):
        await task
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running()
    path = tmp_path / "next.txt"
    path.write_text("The next one.")
    assert (await SANDBOX.read(path, name=path.name, media_type=None)).text == "The next one."


async def test_started_it_has_its_server_before_the_first_file(tmp_path: Path) -> None:
    path = tmp_path / "first.txt"
    path.write_text("The first one.")
    before = set(psutil.Process().children())
    sandbox = Sandbox()
    sandbox.start()
    try:
        (server,) = set(psutil.Process().children()) - before
        assert (await sandbox.read(path, name=path.name, media_type=None)).text == "The first one."
        assert set(psutil.Process().children()) - before == {server}
    finally:
        sandbox.close()
    assert not server.is_running()


async def test_eight_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.txt" for n in range(8)]
    for number, path in enumerate(paths):
        path.write_text(f"This is number {number}.")
    documents = await asyncio.gather(*(SANDBOX.read(p, name=p.name, media_type=None) for p in paths))
    assert [document.text for document in documents] == [f"This is number {n}." for n in range(8)]


def pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalog."""
    body = b"%PDF-1.7\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return (
        body + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    )


async def test_a_loop_in_the_page_tree_ends(tmp_path: Path) -> None:
    path = tmp_path / "loop.pdf"
    path.write_bytes(
        pdf(
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1000>>",
            b"<</Type/Pages/Parent 2 0 R/Kids[2 0 R 3 0 R]/Count 1000>>",
        )
    )
    assert (await failure(path, ParseLimits(wall_s=60))).code == "malformed_file"


def of_one_page(n_megabytes: int) -> bytes:
    """A small PDF whose only page unpacks to so much."""
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(b"q " * (MEGABYTE // 2)) for _ in range(n_megabytes)), packer.flush()])
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(bomb), bomb),
    )


async def test_a_bomb_in_a_page_s_stream_ends(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pdf"
    path.write_bytes(of_one_page(512))
    assert (await failure(path, ParseLimits(cpu_s=20))).code in ("out_of_memory", "timeout")
