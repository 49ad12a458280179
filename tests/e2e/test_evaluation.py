"""`ragline eval` over the whole program: search finds the pages of our own documentation that answer our questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.labelled import write_labelled_set
from tests.stack import DevStack

pytestmark = pytest.mark.timeout(240)


def test_our_own_questions_find_our_own_pages(dev_stack: DevStack, tmp_path: Path) -> None:
    """The floors lie a little under what was measured when they were set: a change that loses quality ends here."""
    folder = write_labelled_set(tmp_path)
    ended = dev_stack.ragline("eval", folder, "--json", "--details", tmp_path / "details.jsonl")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["n_queries"] == 40
    ndcg = {mode: scores["ndcg@10"] for mode, scores in report["modes"].items()}
    assert ndcg["hybrid"] > 0.84
    assert ndcg["text"] > 0.8
    assert ndcg["vector"] > 0.72
    assert ndcg["reranked"] > 0.86
    details = [json.loads(line) for line in (tmp_path / "details.jsonl").read_text().splitlines()]
    assert len(details) == 40 * len(report["modes"])
    again = dev_stack.ragline("eval", folder, "--mode", "text", "--k", "3", "--at-least", "1")
    assert (again.returncode, again.stderr) == (1, "")
    assert "recall@3" in again.stdout


def test_wrong_use_is_a_line(dev_stack: DevStack, tmp_path: Path) -> None:
    ended = dev_stack.ragline("eval", tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "corpus.jsonl is not there" in ended.stderr


def test_details_that_cannot_be_written_are_refused_before_anything_is_measured(
    dev_stack: DevStack, tmp_path: Path
) -> None:
    folder = write_labelled_set(tmp_path)
    details = tmp_path / "nowhere" / "details.jsonl"
    ended = dev_stack.ragline("eval", folder, "--mode", "text", "--details", details)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: --details: {details} cannot be written: No such file or directory\n"
