"""`ragline eval`: how well search finds what a labelled set says it should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragline.cli.ask import ApiKey, Url

if TYPE_CHECKING:
    from ragline.client.beir import LabelledSet
    from ragline.client.evaluation import Asked, Learnt, Scores
    from ragline.client.target import Target

_SHOWN_FAILURES = 5


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="corpus.jsonl, queries.jsonl and qrels/ (BEIR).")],
    *,
    split: Annotated[str, typer.Option(help="Which judgements: qrels/SPLIT.tsv.")] = "test",
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="How many documents of a ranking count.")] = 10,
    mode: Annotated[
        list[str] | None, typer.Option(help="hybrid, vector, text or reranked; may be repeated. [all]")
    ] = None,
    details: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A line of JSON for each query and mode.")
    ] = None,
    at_least: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 if the nDCG of any mode is lower.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Measure search on a labelled set: recall, nDCG, MRR and the time of an answer.

    The corpus is uploaded first; what is there already is not sent to the models again. Other documents of the
    library are passed over, but take places: an organisation of its own gives the clearest figures.

    Exit codes: 0 measured, 1 some of the corpus could not be learnt, a mode is below --at-least or the details could
    not be written, 2 wrong use, 3 no server answers or it does not know the key.
    """
    from ragline.client.beir import read_labelled_set
    from ragline.client.errors import WrongUseError
    from ragline.client.evaluation import MODES, score
    from ragline.client.target import find_target
    from ragline.settings import load_settings

    modes = list(dict.fromkeys(mode or MODES))
    if unknown := [name for name in modes if name not in MODES]:
        raise WrongUseError(f'there is no mode "{unknown[0]}"; known: {", ".join(MODES)}')
    labelled = read_labelled_set(folder, split=split)
    target = find_target(load_settings(), urls=tuple(url or ()), api_key=api_key)
    if details is not None:
        _ensure_writable(details)
    learnt, asked = asyncio.run(_measure(target, labelled, modes, k))
    scores = {name: score(labelled, asked, name, k=k) for name in modes}
    (_print_json if as_json else _print_table)(labelled, learnt, scores, k)
    for id_, reason in list(learnt.failed.items())[:_SHOWN_FAILURES]:
        typer.echo(f'error: document "{id_}" was not learnt: {reason}', err=True)
    if details is not None:
        _write_details(details, labelled, asked)
    if learnt.failed or (at_least is not None and min(one.ndcg for one in scores.values()) < at_least):
        raise typer.Exit(1)


async def _measure(target: Target, labelled: LabelledSet, modes: list[str], k: int) -> tuple[Learnt, list[Asked]]:
    from ragline.client.connection import Connection
    from ragline.client.evaluation import ask, learn

    async with Connection(target) as connection:
        with _bar("documents", len(labelled.corpus)) as done:
            learnt = await learn(connection, labelled, done=done)
        with _bar("queries", len(labelled.queries)) as done:
            return learnt, await ask(connection, labelled, learnt, modes, k=k, done=done)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Counts on a terminal; elsewhere nothing is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _shown(one: Scores, k: int) -> dict[str, float]:
    return {
        f"recall@{k}": round(one.recall, 4),
        f"ndcg@{k}": round(one.ndcg, 4),
        f"mrr@{k}": round(one.reciprocal_rank, 4),
        "p50_ms": round(one.percentile_ms(0.5), 1),
        "p99_ms": round(one.percentile_ms(0.99), 1),
    }


def _print_json(labelled: LabelledSet, learnt: Learnt, scores: dict[str, Scores], k: int) -> None:
    typer.echo(
        json.dumps(
            {
                "set": labelled.name,
                "n_documents": len(labelled.corpus),
                "n_failed": len(learnt.failed),
                "n_queries": len(labelled.queries),
                "modes": {name: _shown(one, k) for name, one in scores.items()},
            },
            ensure_ascii=False,
        )
    )


def _print_table(labelled: LabelledSet, _: Learnt, scores: dict[str, Scores], k: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("mode")
    for column in next(_shown(one, k) for one in scores.values()):
        table.add_column(column.replace("_", " "), justify="right")
    for name, one in scores.items():
        table.add_row(name, *(f"{n:.1f}" if key.endswith("ms") else f"{n:.3f}" for key, n in _shown(one, k).items()))
    typer.echo(f"{labelled.name}: {len(labelled.corpus)} documents, {len(labelled.queries)} queries")
    Console(highlight=False).print(table)


def _ensure_writable(path: Path) -> None:
    """So that nothing is measured for a file that cannot be written. Raises: WrongUseError."""
    from ragline.client.errors import WrongUseError

    try:
        path.open("a").close()
    except OSError as error:
        raise WrongUseError(f"--details: {path} cannot be written: {error.strerror}") from None


def _write_details(path: Path, labelled: LabelledSet, asked: list[Asked]) -> None:
    """What was found for each query, and what should have been. Raises: ClientError for a full disk, say."""
    from ragline.client.errors import ClientError

    try:
        with path.open("w", encoding="utf-8") as file:
            for one in asked:
                line = {
                    "mode": one.mode,
                    "query_id": one.query_id,
                    "query": labelled.queries[one.query_id],
                    "relevant": labelled.relevant[one.query_id],
                    "found": one.ranked,
                    "took_ms": round(one.took_ms, 1),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ClientError(f"--details: {path} could not be written to its end: {error.strerror}") from None
