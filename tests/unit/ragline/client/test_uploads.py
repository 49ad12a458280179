"""What becomes of a file, and which files are meant."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from ragline.client.connection import Connection
from ragline.client.errors import WrongUseError
from ragline.client.target import Target
from ragline.client.uploads import Uploaded, find_files, upload_all
from schemas.http import DocumentProgress
from tests.unit.ragline.client.scripted_edge import DOCUMENT, OTHER_DOCUMENT, ScriptedEdge, document, problem, serving

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


async def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    same = {"size_bytes": 5, "sha256": hashlib.sha256(b"bytes").hexdigest()}
    failed = document(status="failed", version=2, error={"code": "timeout", "message": "too slow"}, **same)
    other = document(id=OTHER_DOCUMENT, status="failed", size_bytes=5)
    edge.answers["GET /api/v1/documents"] = [
        (200, {"items": [other], "next_cursor": "n=xt&"}),
        (200, {"items": [failed], "next_cursor": None}),
    ]
    edge.answers[f"GET /api/v1/documents/{DOCUMENT}"] = [(200, document(version=2))]
    waits = (429, problem("too_many_waiting", "1000 documents wait already", retry_after_s=0))
    edge.answers[f"POST /api/v1/documents/{DOCUMENT}/versions"] = [
        waits,
        (202, {"id": DOCUMENT}),
        (202, {"version": 2}),
    ]
    result, seen = await _upload(edge, tmp_path / "again.pdf")
    assert (result.status, result.is_new, result.is_tried_again, result.error) == ("indexed", False, True, None)
    keys = edge.sent(f"POST /api/v1/documents/{DOCUMENT}/versions", "Idempotency-Key")
    assert (len(keys), len(set(keys)), seen) == (3, 1, ["indexed"]), "what has not taken effect yet is asked for again"
    assert edge.sent("POST /api/v1/documents", "Idempotency-Key") == []


async def test_what_cannot_be_tried_again_is_sent(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("indexed")])
    same = {"size_bytes": 5, "sha256": hashlib.sha256(b"bytes").hexdigest()}
    failed = document(id=OTHER_DOCUMENT, status="failed", **same)
    edge.answers["GET /api/v1/documents"] = [(200, {"items": [failed], "next_cursor": None})]
    gone = problem("document_not_found", "gone")
    edge.answers[f"POST /api/v1/documents/{OTHER_DOCUMENT}/versions"] = [(404, gone)]
    result, _ = await _upload(edge, tmp_path / "again.pdf")
    assert (result.status, result.is_new, str(result.document_id)) == ("indexed", True, DOCUMENT)


async def test_cancelled_it_takes_back_what_is_new_and_not_learnt(tmp_path: Path) -> None:
    """Of three files one is learnt, one is in work, one waits behind it."""
    edge = ScriptedEdge([progress("indexed"), *[progress("parsing")] * 50])
    edge.answers["POST /api/v1/documents"] = [
        (202, document(status="queued")),
        (202, document(status="queued", id=OTHER_DOCUMENT)),
    ]
    edge.answers[f"DELETE /api/v1/documents/{OTHER_DOCUMENT}"] = [(404, problem("document_not_found", "gone"))]
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(b"bytes")
    is_parsing = asyncio.Event()

    def tell(_: Path, told: DocumentProgress) -> None:
        if told.status == "parsing":
            is_parsing.set()

    async with serving(edge), Connection(Target((edge.url,), "a" * 64), patience_s=5.0) as connection:
        uploading = asyncio.create_task(
            upload_all(connection, paths, wait=True, tell=tell, done=lambda _: None, n_at_once=1)
        )
        await asyncio.wait_for(is_parsing.wait(), 10)
        uploading.cancel()
        results = await uploading
    assert [(r.status, str(r.document_id)) for r in results] == [
        ("indexed", DOCUMENT),
        ("cancelled", OTHER_DOCUMENT),
        ("cancelled", "None"),
    ]
    assert [what for what, _ in edge.requests if what.startswith("DELETE")] == [
        f"DELETE /api/v1/documents/{OTHER_DOCUMENT}"
    ]


async def test_cancelled_it_leaves_what_was_there_before(tmp_path: Path) -> None:
    edge = ScriptedEdge([progress("embedding")] * 50)
    edge.answers["POST /api/v1/documents"] = [(409, problem("duplicate_document", "same bytes", document_id=DOCUMENT))]
    edge.answers[f"GET /api/v1/documents/{DOCUMENT}"] = [(200, document(status="embedding"))]
    is_told = asyncio.Event()
    (tmp_path / "a").write_bytes(b"bytes")
    async with serving(edge), Connection(Target((edge.url,), "a" * 64), patience_s=5.0) as connection:
        uploading = asyncio.create_task(
            upload_all(connection, [tmp_path / "a"], wait=True, tell=lambda *_: is_told.set(), done=lambda _: None)
        )
        await asyncio.wait_for(is_told.wait(), 10)
        uploading.cancel()
        (result,) = await uploading
    assert (result.status, result.is_new, str(result.document_id)) == ("cancelled", False, DOCUMENT)
    assert not [what for what, _ in edge.requests if what.startswith("DELETE")]


class SlowEdge(ScriptedEdge):
    """Answers a POST when it may; until then its client hears nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.is_asked.set()
            await self.may_answer.wait()
        return await super().handle(request)


@pytest.mark.parametrize("refusal", [None, (403, problem("forbidden", "this key may not delete"))])
async def test_cancelled_it_takes_back_what_was_just_sent(tmp_path: Path, refusal: tuple[int, object] | None) -> None:
    """The edge has the bytes, and its answer is on the way."""
    edge = SlowEdge()
    edge.answers[f"DELETE /api/v1/documents/{DOCUMENT}"] = [refusal or (200, {})]
    (tmp_path / "a").write_bytes(b"bytes")
    async with serving(edge), Connection(Target((edge.url,), "a" * 64), patience_s=5.0) as connection:
        uploading = asyncio.create_task(
            upload_all(connection, [tmp_path / "a"], wait=True, tell=lambda *_: None, done=lambda _: None)
        )
        await asyncio.wait_for(edge.is_asked.wait(), 10)
        uploading.cancel()
        edge.may_answer.set()
        (result,) = await uploading
    assert (result.status, str(result.document_id)) == ("cancelled", DOCUMENT)
    assert edge.requests[-1][0] == f"DELETE /api/v1/documents/{DOCUMENT}"
    assert result.error == ("it was not deleted: this key may not delete (forbidden)" if refusal else None)


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"a\x1b[31m.txt", b"a\r\nX-Evil: b.txt", b"\n", b'a"b\\.txt'])
async def test_names_that_no_header_can_hold(tmp_path: Path, name: bytes) -> None:
    result, _ = await _upload(ScriptedEdge([progress("indexed")]), tmp_path / os.fsdecode(name))
    assert result.status == "indexed"


async def test_a_file_that_vanished(tmp_path: Path) -> None:
    edge = ScriptedEdge()
    async with serving(edge), Connection(Target((edge.url,), "a" * 64), patience_s=2.0) as connection:
        (gone,) = await upload_all(
            connection, [tmp_path / "gone"], wait=True, tell=lambda *_: None, done=lambda _: None
        )
    assert (gone.status, gone.error) == ("refused", "the file cannot be read: No such file or directory")


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


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").touch()
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert find_files([tmp_path]) == [tmp_path / "a/b.txt"]


def test_what_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="does not exist"):
        find_files([tmp_path / "missing.pdf"])
    with pytest.raises(WrongUseError, match="holds no file"):
        find_files([tmp_path])


def test_an_unreadable_folder_is_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    iterdir = Path.iterdir

    def closed_to_others(folder: Path) -> Iterator[Path]:  # root may read everything
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", closed_to_others)
    with pytest.raises(WrongUseError, match=r"closed cannot be read: Permission denied"):
        find_files([tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0)
    with pytest.raises(WrongUseError, match="cannot be read"):
        find_files([tmp_path / "x"])
