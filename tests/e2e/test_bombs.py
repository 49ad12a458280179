"""Bombs through the real program: each ends once with its reason, within the worker's memory; small files pass them."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.stack import DevStack
from tests.unit.consumers.documents.parse.packed import MEGABYTE, Content, packed, relationships
from tests.unit.consumers.documents.parse.test_pdf_hostile import WORDS, form, page, stream
from tests.unit.consumers.documents.parse.test_pdf_hostile import packed as packed_stream

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit on memory"),
]
MOST_GROWTH = 400 * MEGABYTE
N_SMALL = 12


class Memory:
    """What a process and all below it hold, shared pages counted once; sampled until `stop`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stopped = threading.Event()
        self.at_first = self.highest = self._held()
        self._thread = threading.Thread(target=self._sample)

    def _held(self) -> int:
        n_bytes = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                n_bytes += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return n_bytes

    def _sample(self) -> None:
        while not self._stopped.wait(0.05):
            self.highest = max(self.highest, self._held())

    @contextmanager
    def sampled(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()


def _bombs(folder: Path) -> dict[str, set[str]]:
    """The files, and words of the sentences that they may end with."""
    out = {"memory", "seconds", "too much text", "far more text"}
    drawn = [form(b"/X Do /X Do", 7 + n) for n in range(30)] + [form(WORDS, 6)]
    names = b"/XObject<</X 6 0 R>>"
    files = {
        "forms.pdf": page(stream(b"/X Do"), *drawn, resources=names),
        "loop.pdf": page(stream(b"/X Do"), form(b"/X Do /X Do", 6), resources=names),
        "stream.pdf": page(packed_stream(b"q " * (MEGABYTE // 2) for _ in range(160))),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    word = '<w:document xmlns:w="w"><w:body>'
    parts: dict[str, Content] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(officeDocument="word/document.xml"),
        "word/document.xml": [word.encode(), *[b" " * MEGABYTE] * 256],
    }
    packed(folder / "256mb.docx", parts)
    return dict.fromkeys([*files, "256mb.docx"], out)


def test_bombs_end_within_the_workers_memory_and_small_files_pass_them(dev_stack: DevStack, tmp_path: Path) -> None:
    (note := tmp_path / "note.txt").write_text("A small file waits until the parsers are loaded.")
    dev_stack.ragline("upload", "--json", note, timeout_s=60)
    note.unlink()
    bombs = _bombs(tmp_path)
    for number in range(N_SMALL):
        (tmp_path / f"small-{number}.txt").write_text(f"The lamp of the lighthouse turns {number} times a minute.")
    memory = Memory(dev_stack.pid("worker"))
    with memory.sampled():
        done = dev_stack.ragline("upload", "--json", tmp_path, timeout_s=280)
    found = {Path(line["path"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(found) == len(bombs) + N_SMALL, done.stderr
    for name, line in found.items():
        if name not in bombs:
            assert (line["status"], line["n_passages"]) == ("indexed", 1)
        else:
            assert line["status"] == "failed", name
            assert any(words in line["error"] for words in bombs[name]), line["error"]
    assert memory.highest - memory.at_first < MOST_GROWTH, (memory.highest, memory.at_first)
    print(f"the worker and its children grew by {(memory.highest - memory.at_first) / MEGABYTE:.0f} MB")
