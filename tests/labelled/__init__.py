"""A small labelled set: questions about this project's own documentation, and the pages that answer them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).resolve().parent


def write_labelled_set(folder: Path) -> Path:
    """The questions, with the pages of `pages.txt` as they are now as their corpus (BEIR's layout).

    A page joins the list when it was read against every question: one that answers and is not judged counts as wrong.
    """
    shutil.copy(_HERE / "queries.jsonl", folder)
    shutil.copytree(_HERE / "qrels", folder / "qrels")
    with (folder / "corpus.jsonl").open("w") as file:
        for page in (_HERE / "pages.txt").read_text().splitlines():
            title, _, text = (_ROOT / page).read_text().partition("\n")
            record = {"_id": page, "title": title, "text": text.strip()}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return folder
