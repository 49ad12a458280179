"""The tree names no place to download from and no folder of somebody's machine: both are the reader's own business."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.lint.tree import ROOT, files

# Names, not places to download from: XML namespaces and schema dialects, examples, an API that models are asked at.
NAMES = {
    "purl.org",
    "purl.oclc.org",
    "schemas.openxmlformats.org",
    "www.w3.org",
    "json-schema.org",
    "example.com",
    "example.org",
    "api.openai.com",
}
# tiktoken finds its installed file by the hash of this address; nothing is downloaded. To be replaced by the hash.
KNOWN: set[str] = set()
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/@\"'`<>]*@)?((?:[a-z0-9-]+\.)+[a-z]{2,})\b", re.IGNORECASE)
_HOST = re.compile(r"(?<![\w./@-])((?:[a-z0-9-]+\.)+(?:org|com|io|net))(?![\w.(-])", re.IGNORECASE)
_MACHINE = re.compile(r"(?<![\w.}])/(?:work|home|root|Users|mnt)/\w+/\w")


def _texts() -> Iterator[tuple[str, str]]:
    for path in files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text()
        except UnicodeDecodeError:
            continue


def _foreign_hosts(text: str) -> set[str]:
    return {match[1].lower() for pattern in (_ADDRESS, _HOST) for match in pattern.finditer(text)} - NAMES


def test_no_place_to_download_from() -> None:
    found = {path: hosts for path, text in _texts() if (hosts := _foreign_hosts(text))}
    assert set(found) == KNOWN, (
        "where packages come from is configured on the machine, not in the tree (lock files name hashes only); if a "
        f"host is only a name, add it to NAMES: {found}"
    )


def test_no_path_of_a_machine() -> None:
    found = [f"{path}: {match[0]}…" for path, text in _texts() for match in _MACHINE.finditer(text)]
    assert not found, f"paths are relative to the repository or to a setting: {found}"


def test_the_lints_find_what_they_look_for() -> None:
    dot = "."
    index = f"https://index{dot}pypi{dot}org/simple"
    assert _foreign_hosts(f"--index-url {index}") == {f"index{dot}pypi{dot}org"}
    assert _foreign_hosts(f"registry{dot}npmjs{dot}org") == {f"registry{dot}npmjs{dot}org"}
    assert _foreign_hosts("http://127.0.0.1:8080 s3://bucket/prefix org.apache.kafka:kafka_2.13 example.com") == set()
    assert _MACHINE.search('open("' + "/home" + '/me/x")')
