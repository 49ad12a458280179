"""`ragline eval` where its details cannot be kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.full_disk import full_disk
from tests.stack import run_ragline
from tests.unit.ragline.client.scripted_edge import DOCUMENT, ScriptedEdge, serving

FOUND = {"id": DOCUMENT, "document_id": DOCUMENT, "version": 1, "text": "x", "page": 1, "start": 0, "end": 1}
RESULTS = {"items": [FOUND | {"heading_path": [], "score": 0.5}], "reranked": None}


def write_set(folder: Path) -> None:
    """One document, and forty questions that it answers."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "heron", "text": "The heron waits."}\n')
    numbers = range(40)
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "q{n}", "text": "Which bird?"}}\n' for n in numbers))
    judged = "".join(f"q{n}\theron\t1\n" for n in numbers)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


async def test_what_is_measured_is_told_though_the_disk_of_the_details_is_full(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    indexed = b'event: progress\ndata: {"status": "indexed", "step": "indexed"}\n\n'
    edge = ScriptedEdge([indexed], {"POST /api/v1/search": [(200, RESULTS)]})
    command = ("eval", "set", "--json", "--mode", "text", "--details", "details.jsonl", "--api-key", "a" * 64)
    async with serving(edge):
        with full_disk(2048):
            ended = await asyncio.to_thread(run_ragline, *command, "--url", edge.url, cwd=tmp_path)
    assert ended.stderr == "error: --details: details.jsonl could not be written to its end: File too large\n"
    assert json.loads(ended.stdout)["modes"]["text"]["ndcg@10"] == 1.0
    assert ended.returncode == 1
