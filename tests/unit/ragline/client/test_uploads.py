"""What becomes of a file, and which files are meant."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ragline.client.connection import Connection
from ragline.client.errors import WrongUseError
from ragline.client.target import Target
from ragline.client.uploads import Uploaded, find_files, upload_all
from schemas.http import DocumentProgress
from tests.unit.ragline.client.scripted_edge import DOCUMENT, ScriptedEdge, document, problem, serving

EVENTS = f"GET /api/v1/documents/{DOCUMENT}/events"


def progress(status: str, **more: object) -> bytes:
    return f"event: progress\ndata: {json.dumps({'status': status, 'step': status} | more)}\n\n".encode()


async def _upload(edge: ScriptedEdge, path: Path, *, wait: bool = True) -> tuple[Uploaded, list[str]]:
    path.write_bytes(b"bytes")  # noqa: ASYNC240
    seen: list[DocumentProgress] = []
    async with serving(edge), Connection(Target((edge.url,), "a" * 64), patience_s=2.0) as connection:
        (result,) = await upload_all(
            connection, [path], wait=wait, tell=lambda _, told: seen.append(told), done=lambda _: None
        )
    return result, [told.status for told in seen]


async def test_waits_until_it_is_indexed_over_a_cut(tmp_path: Path) -> None:
    stream = [progress("parsing", later_field=1) + b": hb\n", progress("embedding") + progress("indexed")]
    result, seen = await _upload(ScriptedEdge([*stream]), tmp_path / "größe.pdf")
    assert (result.status, result.is_new, result.n_pages, result.is_good) == ("indexed", True, 14, True)
    assert seen == ["parsing", "embedding", "indexed"]


async def test_a_failed_document_has_its_reason(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("failed")])
    failed = document(status="failed", error={"code": "no_text", "message": "no text layer"})
    edge.answers[f"GET /api/v1/documents/{DOCUMENT}"] = [(200, failed)]
    result, _ = await _upload(edge, tmp_path / "scan.pdf")
    assert (result.status, result.is_good, result.error) == ("failed", False, "no text layer")


async def test_what_is_there_already_counts(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    edge.answers["POST /api/v1/documents"] = [(409, problem("duplicate_document", "same bytes", document_id=DOCUMENT))]
    result, _ = await _upload(edge, tmp_path / "again.pdf")
    assert (result.status, result.is_new, result.is_good, str(result.document_id)) == ("indexed", False, True, DOCUMENT)


async def test_what_an_earlier_version_has_is_not_there(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    same = problem("duplicate_document", "same bytes", document_id=DOCUMENT, version=1)
    edge.answers["POST /api/v1/documents"] = [(409, same)]
    edge.answers[f"GET /api/v1/documents/{DOCUMENT}"] = [(200, document(version=2, active_version=2))]
    result, _ = await _upload(edge, tmp_path / "old.pdf")
    assert (result.status, result.is_good) == ("refused", False)
    assert result.error == f"an earlier version of the document {DOCUMENT} has these bytes; restore its version 1"


async def test_a_refusal_is_told(tmp_path: Path) -> None:
    edge = ScriptedEdge(answers={"POST /api/v1/documents": [(413, problem("too_large", "at most 5 bytes are taken"))]})
    result, _ = await _upload(edge, tmp_path / "big.pdf")
    assert (result.status, result.is_good) == ("refused", False)
    assert result.error == "at most 5 bytes are taken (too_large)"


async def test_while_too_many_wait_the_same_request_is_sent_again(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    refused = (429, problem("too_many_waiting", "1000 documents wait already", retry_after_s=0))
    edge.answers["POST /api/v1/documents"] = [refused, refused, (202, document(status="queued"))]
    result, _ = await _upload(edge, tmp_path / "a.pdf")
    assert (result.status, result.is_new) == ("indexed", True)
    keys = edge.sent("POST /api/v1/documents", "Idempotency-Key")
    assert (len(keys), len(set(keys))) == (3, 1)


async def test_without_waiting(tmp_path: Path) -> None:
    edge = ScriptedEdge()
    edge.answers[f"GET /api/v1/documents/{DOCUMENT}"] = [(404, problem("document_not_found", "no"))]
    result, seen = await _upload(edge, tmp_path / "quick.pdf", wait=False)
    assert (result.status, result.is_good, seen) == ("accepted", True, [])
    assert edge.sent(EVENTS, "Authorization") == []


async def test_a_503_is_repeated_with_the_file_from_its_begin(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    edge.answers["POST /api/v1/documents"].insert(0, (503, problem("unavailable", "away")))
    result, _ = await _upload(edge, tmp_path / "a.pdf")
    assert result.status == "indexed"
    first, second = edge.sent("POST /api/v1/documents", "Content-Length")
    assert first == second


def test_folders_are_read_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a/.hidden", ".git/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_files([tmp_path, tmp_path / "b.txt"]) == [tmp_path / "a/c.txt", tmp_path / "b.txt"]


def test_what_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="does not exist"):
        find_files([tmp_path / "missing.pdf"])
    with pytest.raises(WrongUseError, match="holds no file"):
        find_files([tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0)
    with pytest.raises(WrongUseError, match="cannot be read"):
        find_files([tmp_path / "x"])
