"""Real and hostile files: each ends once, indexed with text that is there, or failed with a reason."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from providers.embeddings import WordLlamaEmbedder
from retrieval.search import Searcher
from schemas.events import DocumentFailed, DocumentIndexed
from storage.postgres.passages import PassageVisibility
from tests.conftest import Samples
from tests.integration.documents.room import Room

GOOD = {
    "two-column-paper.pdf": 14,
    "korean-tables.pdf": 1,
    "invoice-multipage-tables.pdf": 3,
    "paper.docx": 0,
    "wikipedia-saved.html": 0,
    "readme.md": 0,
    "outline-mistitled.pdf": 4,
    "slides.pptx": 6,
    "sheet.xlsx": 0,
    "book.epub": 0,
    "attachment.eml": 0,
    "shift-jis.csv": 0,
}
BAD = {
    "docx-truncated.docx": "malformed_file",
    "encrypted-password.pdf": "password_needed",
    "scan-no-text-layer.pdf": "no_text_layer",
}
MADE = {
    "empty.txt": (b"", "empty_document"),
    "blank.md": (b" \n\t\n", "empty_document"),
    "signs.txt": ("-- … ***\n\n[ ] { } 🙂\n".encode(), "empty_document"),
    "brackets.json": (b"[" * 900 + b"]" * 900, "empty_document"),
    "deep.json": (b"[" * 100_000 + b"]" * 100_000, "malformed_file"),
    "cut.pdf": (b"%PDF-1.7\n1 0 obj <<", "malformed_file"),
    "noise.bin": (bytes(range(256)) * 64, "unsupported_type"),
}


@pytest.mark.timeout(180)
async def test_every_sample_ends_once_and_says_how(room: Room, samples: Samples) -> None:
    embedder = WordLlamaEmbedder()
    async with room.consuming(), room.learning(embedder, read=None, batch_size=128, sweep_s=1.0):
        files = {name: samples.path(name).read_bytes() for name in [*GOOD, *BAD]}
        files |= {name: data for name, (data, _) in MADE.items()}
        ids = {name: await room.upload(data, name) for name, data in files.items()}
        ends = {name: await room.heard.end(document_id, timeout_s=120) for name, document_id in ids.items()}
        searcher = Searcher(room.vectors, embedder, PassageVisibility(room.database))
        question = "How does trace-based compilation decide when to compile a loop?"
        [best, *_] = (await searcher.find(room.tenant_id, question, limit=5)).items
        paper = ids["two-column-paper.pdf"]
        text = await room.blobs.read_bytes(f"tenants/{room.tenant_id}/documents/{paper}/v1/text.txt")
        async with room.database.transaction() as work:
            spans = await work.fetch("SELECT text, span_start, span_end FROM passages WHERE document_id = $1", paper)
    await embedder.close()
    pages = {name: end.n_pages for name, end in ends.items() if isinstance(end, DocumentIndexed)}
    codes = {name: end.error.code for name, end in ends.items() if isinstance(end, DocumentFailed)}
    assert pages == GOOD
    assert codes == BAD | {name: code for name, (_, code) in MADE.items()}
    for name, document_id in ids.items():
        assert len(room.heard.of(document_id, DocumentFailed) + room.heard.of(document_id, DocumentIndexed)) == 1, name
        assert (await room.version(document_id))["n_passages"] > 0 or name in codes
    assert best.passage.document_id == paper
    assert best.passage.page is not None
    whole = text.decode()
    assert spans
    assert all(whole[row["span_start"] : row["span_end"]] == row["text"] for row in spans)


@pytest.mark.timeout(180)
async def test_temporary_files_go_with_their_document_or_their_dead_worker(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name, age_s in (("ragline-document-dead", 7200), ("ragline-document-alive", 10), ("other", 7200)):
        (folder / name).mkdir()
        (folder / name / "original").write_text("x")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    embedder = WordLlamaEmbedder()
    async with room.consuming(), room.learning(embedder, read=None):
        for data, name in ((b"some text", "a.txt"), (b"%PDF-1.7\n", "b.pdf")):
            await room.heard.end(await room.upload(data, name))
    await embedder.close()
    assert sorted(path.name for path in folder.iterdir()) == ["other", "ragline-document-alive"]
