"""Scans: where a command recognizes text they are learnt like other files; where it cannot, they say why."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from consumers.documents.parse.document import ParseFailed
from consumers.documents.recognition import CommandRecognizer, Recognizer
from schemas.events import DocumentFailed, DocumentIndexed
from tests.conftest import Samples
from tests.integration.documents.room import HashEmbedder, Room
from tests.unit.consumers.documents.parse.drawn_pdf import Drawn, pdf

SCAN = pdf([[], []])
WORDS = "The heron stands in the shallow water"


def _command(tmp_path: Path, does: str) -> list[str]:
    """A program of this test's own, run as any other would be."""
    (tmp_path / "text.pdf").write_bytes(pdf([[Drawn(WORDS, 50, 700)]]))
    program = tmp_path / "recognize.py"
    program.write_text(f"import os, shutil, subprocess, sys, time\nfrom pathlib import Path\n{does}\n")
    return [sys.executable, str(program), "{input}", "{output}"]


def _succeeds(tmp_path: Path) -> list[str]:
    wanted = "assert Path(sys.argv[1]).read_bytes().startswith(b'%PDF')"
    return _command(tmp_path, f"{wanted}\nshutil.copy({str(tmp_path / 'text.pdf')!r}, sys.argv[2])")


async def _end_of_a_scan(
    room: Room, recognizer: Recognizer | None, data: bytes = SCAN
) -> DocumentIndexed | DocumentFailed:
    async with room.consuming(), room.learning(HashEmbedder(), read=None, recognizer=recognizer):
        document_id = await room.upload(data, name="scan.pdf")
        return await room.heard.end(document_id)


async def _text(room: Room) -> str:
    row = await room.row("SELECT string_agg(text, ' ' ORDER BY ordinal) AS text FROM passages")
    return str(row["text"])


async def test_the_recognized_text_is_learnt(room: Room, tmp_path: Path) -> None:
    ended = await _end_of_a_scan(room, CommandRecognizer(_succeeds(tmp_path)))
    assert isinstance(ended, DocumentIndexed)
    assert await _text(room) == WORDS


async def test_without_a_command_or_where_it_fails_the_scan_says_why(room: Room, tmp_path: Path) -> None:
    ended = await _end_of_a_scan(room, None)
    assert isinstance(ended, DocumentFailed)
    assert ended.error.code == "no_text_layer"
    ended = await _end_of_a_scan(room, CommandRecognizer(_command(tmp_path, "sys.exit(3)")), pdf([[], [], []]))
    assert isinstance(ended, DocumentFailed)
    assert (ended.error.code, ended.error.message) == (
        "no_text_layer",
        "The PDF has no text layer, and text recognition ended with status 3.",
    )


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_command_that_hangs_is_ended_with_what_it_began(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    does = f"p = subprocess.Popen(['sleep', '600'])\nPath({str(begun)!r}).write_text(str(p.pid))\ntime.sleep(600)"
    (tmp_path / "scan.pdf").write_bytes(SCAN)
    with pytest.raises(ParseFailed, match="took more than 2 seconds"):
        await CommandRecognizer(_command(tmp_path, does), timeout_s=2).recognized(tmp_path / "scan.pdf")
    pid = int(begun.read_text())
    async with asyncio.timeout(10):
        while _runs(pid):
            await asyncio.sleep(0.02)


def test_a_command_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="must be words of the command"):
        CommandRecognizer(["ocrmypdf", "{input}"])
    with pytest.raises(ValueError, match="there is no program ocr-of-nobody"):
        CommandRecognizer(["ocr-of-nobody", "{input}", "{output}"])


@pytest.mark.skipif(shutil.which("ocrmypdf") is None, reason="ocrmypdf is not installed (Debian: the package ocrmypdf)")
async def test_a_real_scan_through_ocrmypdf(room: Room, samples: Samples) -> None:
    recognizer = CommandRecognizer(["ocrmypdf", "--quiet", "--skip-text", "{input}", "{output}"])
    ended = await _end_of_a_scan(room, recognizer, samples.path("scan-no-text-layer.pdf").read_bytes())
    assert isinstance(ended, DocumentIndexed)
    assert len((await _text(room)).split()) > 20
