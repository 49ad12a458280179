"""`ragline dlq`: what could not be processed; see it, redrive it, or mark it as done with."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from ragline.cli.printable import printable
from ragline.cli.servers import kafka_bootstrap, postgres_dsn, quiet_clients, reachable
from ragline.client.errors import WrongUseError

if TYPE_CHECKING:
    from producers.replay.dead_letters import DeadLetterDesk, Done, Wanted
    from schemas.dead_letters import DeadLetterView
    from storage.postgres.dead_letter_actions import Place

ResultT = TypeVar("ResultT")

app = typer.Typer(no_args_is_help=True, help="See to dead letters: records that could not be processed and are kept.")

NEVER_FOLDED = 500
MAX_LIMIT = 10_000
_AGE = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Refs = Annotated[list[str] | None, typer.Argument(metavar="REF", help="TOPIC/PARTITION/OFFSET as `ls` prints it.")]
Ref = Annotated[str, typer.Argument(metavar="REF", help="TOPIC/PARTITION/OFFSET as `ls` prints it.")]
TopicName = Annotated[str | None, typer.Option("--topic", help="The original topic. [all]")]
Reason = Annotated[str | None, typer.Option(help="The reason, as `stats` prints it.")]
TypeName = Annotated[str | None, typer.Option("--type", help="The record's ce_type, or the beginning of it.")]
Id = Annotated[str | None, typer.Option("--id", help="The record's ce_id.")]
Since = Annotated[str | None, typer.Option(help="How old at most (90s, 30m, 2h, 7d), or a time (ISO 8601).")]
All = Annotated[bool, typer.Option("--all", help="Those that were redriven or discarded too.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; else it is only said what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Limit = Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")]


@app.command()
def ls(
    *,
    topic: TopicName = None,
    reason: Reason = None,
    type_: TypeName = None,
    id_: Id = None,
    since: Since = None,
    all_: All = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first.

    Exit codes: 0 listed, 2 wrong use, 3 Kafka or PostgreSQL does not answer.
    """
    wanted = _wanted(topic, reason, type_, id_, since, open_only=not all_)
    found = _at_desk(lambda desk: desk.browse(wanted, limit=limit))
    if as_json:
        _print_json({"n_matched": found.n_matched, "letters": [_dumped(letter) for letter in found.letters]})
        return
    _print_letters(found.letters)
    _print_rest(len(found.letters), found.n_matched)


@app.command()
def stats(
    *,
    topic: TopicName = None,
    reason: Reason = None,
    type_: TypeName = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by topic, type and reason.

    Exit codes: 0 counted, 2 wrong use, 3 Kafka or PostgreSQL does not answer.
    """
    wanted = _wanted(topic, reason, type_, None, since, open_only=False)
    counts = _at_desk(lambda desk: desk.stats(wanted))
    rows = [
        {**why._asdict(), "n_letters": n.n_letters, "n_open": n.n_open, "last_at": n.last_at.isoformat()}
        for why, n in counts.items()
    ]
    if as_json:
        _print_json({"reasons": rows})
    elif rows:
        _print_table(list(rows[0]), [[str(value or "") for value in row.values()] for row in rows])
    else:
        typer.echo("no dead letters")


@app.command()
def show(ref: Ref, *, as_json: AsJson = False) -> None:
    """Show one dead letter with its headers and its body.

    Exit codes: 0 shown, 1 there is no such letter, 2 wrong use, 3 Kafka or PostgreSQL does not answer.
    """
    place = _place(ref)
    whole = _at_desk(lambda desk: desk.read(place))
    body = (whole.value or b"").decode("utf-8", "backslashreplace")
    if as_json:
        _print_json({**_dumped(whole.letter), "headers": whole.headers, "body": body})
        return
    for name, value in _dumped(whole.letter).items():
        typer.echo(printable(f"{name}: {value if value is not None else ''}"))
    typer.echo("")
    for header, text in whole.headers:
        typer.echo(printable(f"{header}: {text}"))
    typer.echo("")
    for line in body.split("\n"):
        typer.echo(printable(line))


@app.command()
def redrive(
    refs: Refs = None,
    *,
    topic: TopicName = None,
    reason: Reason = None,
    type_: TypeName = None,
    id_: Id = None,
    since: Since = None,
    limit: Limit = 100,
    execute: Execute = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish open dead letters to their topics again, as they were, oldest first. Without --execute nothing is done.

    The record keeps its id, so what took effect once does not take effect again; one that fails again is a new letter.

    Exit codes: 0 done or shown, 1 refused or no such letter, 2 wrong use, 3 Kafka or PostgreSQL does not answer.
    """
    wanted = _wanted(topic, reason, type_, id_, since, open_only=True)
    _see_to("redrive", refs or [], wanted, limit, _Manner(execute, yes, as_json))


@app.command()
def discard(
    refs: Refs = None,
    *,
    topic: TopicName = None,
    reason: Reason = None,
    type_: TypeName = None,
    id_: Id = None,
    since: Since = None,
    limit: Limit = 100,
    execute: Execute = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Mark open dead letters as done with, oldest first. Without --execute nothing is done.

    The log keeps them for as long as it would; `redrive REF` still takes them.

    Exit codes: 0 done or shown, 1 refused or no such letter, 2 wrong use, 3 Kafka or PostgreSQL does not answer.
    """
    wanted = _wanted(topic, reason, type_, id_, since, open_only=True)
    _see_to("discard", refs or [], wanted, limit, _Manner(execute, yes, as_json))


@dataclass(frozen=True, slots=True)
class _Manner:
    execute: bool
    yes: bool
    as_json: bool


def _see_to(
    what: Literal["redrive", "discard"], refs: Sequence[str], wanted: Wanted, limit: int, manner: _Manner
) -> None:
    places = list(dict.fromkeys(_place(ref) for ref in refs))
    letters, n_matched = _at_desk(lambda desk: _choose(desk, places, wanted, limit))
    if not manner.as_json:
        _print_letters(letters)
        _print_rest(len(letters), n_matched)
    done: list[Done] = []
    if manner.execute and letters:
        if not manner.yes:
            typer.confirm(f"{what} {len(letters)} of {n_matched} letters?", abort=True, err=True)
        done = _at_desk(lambda desk: _do(desk, what, letters), publishes=what == "redrive")
    n_new = sum(one.is_new for one in done)
    if manner.as_json:
        shown = [{**_dumped(one.letter), "is_new": one.is_new} for one in done] or [_dumped(one) for one in letters]
        _print_json({"dry_run": not manner.execute, "n_matched": n_matched, "n_done": n_new, "letters": shown})
    elif not manner.execute and letters:
        typer.echo(f"nothing was done; {what} these {len(letters)} with --execute")
    elif letters:
        n_before = len(done) - n_new
        typer.echo(f"{what}: {n_new} done" + (f", {n_before} were done before" if n_before else ""))


async def _choose(
    desk: DeadLetterDesk, places: Sequence[Place], wanted: Wanted, limit: int
) -> tuple[Sequence[DeadLetterView], int]:
    if places:
        letters = [(await desk.read(place)).letter for place in places[:limit]]
        return letters, len(places)
    found = await desk.browse(wanted, limit=limit, oldest_first=True)
    return found.letters, found.n_matched


async def _do(desk: DeadLetterDesk, what: str, letters: Sequence[DeadLetterView]) -> list[Done]:
    from producers.replay.dead_letters import place_of

    by = f"cli:{_user()}"
    places = [place_of(letter) for letter in letters]
    doing = desk.redrive(places, by=by) if what == "redrive" else desk.discard(letters, by=by)
    return [one async for one in doing]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _at_desk(work: Callable[[DeadLetterDesk], Awaitable[ResultT]], *, publishes: bool = False) -> ResultT:
    """What the work gives. Raises: UnreachableError; WrongUseError for a topic that is none; Reject."""
    from ragline.wiring.dead_letters import dead_letter_desk
    from schemas.errors import Reject
    from storage.postgres import migrate

    quiet_clients()
    bootstrap, dsn = kafka_bootstrap(), postgres_dsn()

    async def run() -> ResultT:
        await reachable(migrate.current_revision(dsn), "postgres_dsn")
        async with dead_letter_desk(bootstrap, dsn, publishes=publishes) as desk:
            return await work(desk)

    try:
        return asyncio.run(reachable(run(), "kafka_bootstrap"))
    except Reject as reject:
        if reject.code == "topic_not_found":
            raise WrongUseError(str(reject)) from None
        raise


def _wanted(
    topic: str | None, reason: str | None, type_: str | None, id_: str | None, since: str | None, *, open_only: bool
) -> Wanted:
    from producers.replay.dead_letters import Wanted

    at = _time(since) if since is not None else None
    return Wanted(topic=topic, reason=reason, type=type_, id=id_, since=at, is_open=True if open_only else None)


def _time(text: str) -> datetime:
    """Raises: WrongUseError."""
    age = _AGE.fullmatch(text)
    if age is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUseError(f'--since: "{text}" is neither an age (90s, 30m, 2h, 7d) nor a time (ISO 8601)') from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _place(ref: str) -> Place:
    """Raises: WrongUseError."""
    from storage.postgres.dead_letter_actions import Place

    topic, *numbers = ref.split("/")
    if len(numbers) != 2 or not all(n.isascii() and n.isdecimal() and len(n) < 16 for n in numbers):
        raise WrongUseError(f'"{ref}" names no dead letter; write TOPIC/PARTITION/OFFSET as `ragline dlq ls` prints it')
    return Place(topic.removesuffix(".dlq"), int(numbers[0]), int(numbers[1]))


def _dumped(letter: DeadLetterView) -> dict[str, object]:
    from producers.replay.dead_letters import place_of, shown

    return {"ref": shown(place_of(letter)), **letter.model_dump(mode="json")}


def _print_letters(letters: Sequence[DeadLetterView]) -> None:
    from producers.replay.dead_letters import place_of, shown

    if not letters:
        typer.echo("no dead letters")
        return
    rows = [
        [
            shown(place_of(letter)),
            letter.at.isoformat(timespec="seconds"),
            letter.reason,
            letter.type or "",
            letter.id or "",
            f"{letter.action.action} by {letter.action.by}" if letter.action is not None else "",
            letter.error,
        ]
        for letter in letters
    ]
    _print_table(["ref", "at", "reason", "type", "id", "done", "error"], rows)


def _print_rest(n_shown: int, n_matched: int) -> None:
    if n_matched > n_shown:
        typer.echo(f"{n_shown} of {n_matched}; more with --limit")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(value)) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else NEVER_FOLDED).print(table)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
