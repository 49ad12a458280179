"""A folder of mixed files through `ragline upload`: each ends, all is summed up, what failed is tried again; cancel."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.e2e.terminal import at_a_terminal
from tests.stack import DevStack, eventually
from tests.unit.consumers.documents.parse.test_every_format import ALL, WORDS, made

pytestmark = pytest.mark.timeout(240)

N_FILES = int(os.environ.get("RAGLINE_TEST_FILES", "112"))
BAD = {
    "blank.txt": b" \n",
    "noise.docx": bytes(range(256)) * 9,
    "cut.pdf": b"%PDF-1.7\n1 0 obj <<",
    "scripts.html": b"<html>",
}
NAMES = ("../climb\x1b[31m.txt", "\u202egnp.txt", "größe 語.txt", "=cmd|'calc'!A0.csv")
"""Names as files may have them; the first loses its folder on the way to the disk."""


def _filled(folder: Path, tmp_path: Path) -> None:
    for number in range(N_FILES):
        name = ALL[number % len(ALL)]
        _, data = made(name, tmp_path)
        inside = folder / f"part {number % 7}"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / f"{number}-{name}").write_bytes(data + b"\n" * number)  # no two have the same bytes
    for name, data in BAD.items():
        (folder / name).write_bytes(data)
    for name in NAMES:
        (folder / name.replace("../", "")).write_text(f"{WORDS} {name!r}")


def _lines(output: str) -> dict[str, dict[str, object]]:
    return {Path(str(line["path"])).name: line for line in map(json.loads, output.splitlines())}


def test_a_folder_of_mixed_files(dev_stack: DevStack, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    _filled(folder, tmp_path)
    done = dev_stack.ragline("upload", "--json", folder, timeout_s=200)
    assert done.returncode == 1, done.stderr
    found = _lines(done.stdout)
    assert len(found) == N_FILES + len(BAD) + len(NAMES), done.stderr
    assert {name for name, line in found.items() if line["status"] != "indexed"} == set(BAD)
    assert all(line["n_passages"] for name, line in found.items() if name not in BAD)
    assert all(str(found[name]["error"]).endswith(".") for name in BAD)

    again = dev_stack.ragline("upload", folder, timeout_s=200)
    assert again.returncode == 1
    assert again.stdout.count("failed, tried again") == len(BAD)
    assert again.stdout.count("indexed, was there already") == N_FILES + len(NAMES)
    n_files = N_FILES + len(BAD) + len(NAMES)
    assert f"\n{n_files} files: {n_files - len(BAD)} indexed, {len(BAD)} failed; " in again.stdout
    assert again.stderr.count("error: ") == len(BAD)
    assert not {c for c in again.stdout + again.stderr if not c.isprintable()} - {"\n"}
    names = {item["name"] for item in _documents(dev_stack)}
    assert {"climb[31m.txt", "gnp.txt", "größe 語.txt", "=cmd|'calc'!A0.csv"} <= names


def _documents(stack: DevStack) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    cursor = None
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=30.0) as client:
        while True:
            page = client.get(
                "/api/v1/documents", params={"limit": 200} | ({"cursor": cursor} if cursor else {})
            ).json()
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def test_ctrl_c_cancels_what_is_not_learnt(dev_stack: DevStack, tmp_path: Path) -> None:
    """A page that takes minutes to read, and nobody waits for them."""
    page = "<html><body><table><tr>" + "<td>x1</td>" * 48_000 + "</tr></table><p>Hello"
    (tmp_path / "endless.html").write_text(page)
    with at_a_terminal(dev_stack, "upload", tmp_path / "endless.html") as terminal:
        terminal.until(b"parsing")
        assert any(item["name"] == "endless.html" for item in _documents(dev_stack))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 130, terminal.seen
    assert b"1 files: 1 cancelled; " in terminal.seen
    eventually(
        lambda: not any(item["name"] == "endless.html" for item in _documents(dev_stack)),
        within_s=10,
        why=dev_stack.log,
    )
