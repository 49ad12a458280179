"""A labelled set is read as BEIR writes it, and what is wrong with one is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragline.client.beir import read_labelled_set
from ragline.client.errors import WrongUseError

CORPUS = '{"_id": "d1", "title": "Herons", "text": "They wait."}\n{"_id": "d2", "title": "", "text": "Fish swim."}\n'
QUERIES = '{"_id": "q1", "text": "who waits"}\n\n{"_id": "q2", "text": "nobody judged this"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n"


def written(folder: Path, *, corpus: str = CORPUS, queries: str = QUERIES, qrels: str = QRELS) -> Path:
    (folder / "corpus.jsonl").write_text(corpus)
    (folder / "queries.jsonl").write_text(queries)
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


def test_what_is_judged_is_kept(tmp_path: Path) -> None:
    found = read_labelled_set(written(tmp_path))
    assert found.corpus == {"d1": "Herons\n\nThey wait.", "d2": "Fish swim."}
    assert found.queries == {"q1": "who waits"}
    assert found.relevant == {"q1": {"d1": 1}}
    assert found.name == tmp_path.name


def test_judgements_need_no_header(tmp_path: Path) -> None:
    assert read_labelled_set(written(tmp_path, qrels="q1\td1\t2\n")).relevant == {"q1": {"d1": 2}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"corpus": '{"_id": "d1"}\n'}, r"corpus\.jsonl, line 1: each line is"),
        ({"corpus": CORPUS + "[1]\n"}, r"corpus\.jsonl, line 3: each line is"),
        ({"queries": "who waits\n"}, r"queries\.jsonl, line 1"),
        (
            {"queries": QUERIES + '{"_id": "q1", "text": "again"}\n'},
            r'queries\.jsonl, line 4: the _id "q1" is that of line 1 too',
        ),
        ({"corpus": CORPUS + CORPUS}, r'corpus\.jsonl, line 3: the _id "d1" is that of line 1 too'),
        ({"queries": '\n{"_id": "q1", "text": " \\n"}\n'}, r'queries\.jsonl, line 2: the query "q1" is blank'),
        (
            {"queries": f'{{"_id": "q1", "text": "{"x" * 10_001}"}}\n'},
            r'queries\.jsonl, line 1: the query "q1" has 10,001 characters; at most 10,000',
        ),
        ({"qrels": QRELS + "q1 d1 1\n"}, r"test\.tsv, line 4: each line is query-id, corpus-id, score"),
        ({"qrels": "q9\td1\t1\n"}, 'the query "q9", which queries.jsonl has not'),
        ({"qrels": "q1\td9\t1\n"}, 'the document "d9", which corpus.jsonl has not'),
        ({"qrels": "q1\td1\t0\n"}, "no query of the split test has a relevant document"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    with pytest.raises(WrongUseError, match=says):
        read_labelled_set(written(tmp_path, **changes))


def test_a_query_that_nobody_asks_may_be_anything(tmp_path: Path) -> None:
    queries = f'{{"_id": "q1", "text": "{"x" * 10_000}"}}\n{{"_id": "q2", "text": ""}}\n'
    assert read_labelled_set(written(tmp_path, queries=queries)).queries == {"q1": "x" * 10_000}


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match=r"is not there; the folder holds corpus\.jsonl"):
        read_labelled_set(tmp_path / "nowhere")
