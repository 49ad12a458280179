"""A small labelled set: questions about this project's own documentation, and the pages that answer them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).resolve().parent


def write_labelled_set(folder: Path) -> Path:
    """The questions, with the documentation as it is now as their corpus (BEIR's layout)."""
    shutil.copy(_HERE / "queries.jsonl", folder)
    shutil.copytree(_HERE / "qrels", folder / "qrels")
    with (folder / "corpus.jsonl").open("w") as file:
        for page in sorted((_ROOT / "docs").rglob("*.md")):
            title, _, text = page.read_text().partition("\n")
            record = {"_id": page.relative_to(_ROOT).as_posix(), "title": title, "text": text.strip()}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return folder
