"""A labelled set in the layout of BEIR: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`.

Thakur et al.: "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval Models", NeurIPS 2021.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from ragline.client.errors import WrongUseError

MAX_QUERY_CHARS = 10_000
"""What a search takes."""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """`corpus`: id → text with its title above; `queries`: id → text; `relevant`: query → document → grade > 0.

    Only queries that have something relevant are kept.
    """

    name: str
    corpus: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]


def read_labelled_set(folder: Path, *, split: str = "test") -> LabelledSet:
    """The set in `folder`. Raises: WrongUseError that names file, line and what is wrong."""
    corpus = {id_: f"{title}\n\n{text}".strip() for _, id_, title, text in _records(folder / "corpus.jsonl")}
    relevant = _judgements(folder / "qrels" / f"{split}.tsv")
    queries = _queries(folder / "queries.jsonl", relevant.keys())
    unknown = sorted(relevant.keys() - queries.keys())
    if unknown:
        raise WrongUseError(f'{folder}: the judgements name the query "{unknown[0]}", which queries.jsonl has not')
    missing = sorted({id_ for grades in relevant.values() for id_ in grades} - corpus.keys())
    if missing:
        raise WrongUseError(f'{folder}: the judgements name the document "{missing[0]}", which corpus.jsonl has not')
    if not relevant:
        raise WrongUseError(f"{folder}: no query of the split {split} has a relevant document")
    return LabelledSet(folder.resolve().name, corpus, {id_: queries[id_] for id_ in relevant}, relevant)


def _queries(path: Path, asked: Set[str]) -> dict[str, str]:
    """All of them; those that are `asked` can be."""
    found: dict[str, str] = {}
    for n, id_, _, text in _records(path):
        if id_ in asked and not text.strip():
            raise WrongUseError(f'{path}, line {n}: the query "{id_}" is blank')
        if id_ in asked and len(text) > MAX_QUERY_CHARS:
            size = f"has {len(text):,} characters; at most {MAX_QUERY_CHARS:,} can be asked"
            raise WrongUseError(f'{path}, line {n}: the query "{id_}" {size}')
        found[id_] = text
    return found


def _records(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Number, id, title and text of each line; no id comes twice."""
    first: dict[str, int] = {}
    for n, line in _lines(path):
        try:
            record = json.loads(line)
            id_, title, text = str(record["_id"]), str(record.get("title") or ""), str(record["text"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WrongUseError(f'{path}, line {n}: each line is {{"_id": …, "title": …, "text": …}}') from None
        if id_ in first:
            raise WrongUseError(f'{path}, line {n}: the _id "{id_}" is that of line {first[id_]} too')
        first[id_] = n
        yield n, id_, title, text


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for n, line in _lines(path):
        fields = line.split("\t")
        if n == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue  # the header
        try:
            query, document, grade = fields[0], fields[1], int(fields[2])
        except (ValueError, IndexError):
            raise WrongUseError(
                f"{path}, line {n}: each line is query-id, corpus-id, score, with tabs between"
            ) from None
        if grade > 0:
            found.setdefault(query, {})[document] = grade
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for n, line in enumerate(file, start=1):
                if line.strip():
                    yield n, line.rstrip("\r\n")
    except FileNotFoundError:
        raise WrongUseError(f"{path} is not there; the folder holds corpus.jsonl, queries.jsonl, qrels/*.tsv") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"{path} cannot be read: {error}") from None
