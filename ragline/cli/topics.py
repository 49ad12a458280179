"""`ragline topics`: the broker's topics against the registry."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ragline.cli.servers import kafka_bootstrap, quiet_clients, reachable

if TYPE_CHECKING:
    from storage.log.topic_admin import TopicDiff

app = typer.Typer(no_args_is_help=True, help="Compare the broker's topics with the registry, or bring them to it.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object: missing, settings, conflicts.")]


@app.command()
def diff(*, as_json: AsJson = False) -> None:
    """Show what differs between the registry and the broker.

    Exit codes: 0 nothing, 1 something, 3 Kafka does not answer.
    """
    from storage.log.topic_admin import diff_topics

    quiet_clients()
    found = asyncio.run(reachable(diff_topics(kafka_bootstrap()), "kafka_bootstrap"))
    _show(found, as_json=as_json, nothing="the broker has what the registry says")
    if not found.is_empty:
        raise typer.Exit(1)


@app.command()
def apply(
    *,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each new topic.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Create missing topics and set what differs. Partition counts never change.

    Exit codes: 0 the broker agrees with the registry, 1 a conflict needs a person, 3 Kafka does not answer.
    """
    from storage.log.topic_admin import apply_topics

    quiet_clients()
    done = asyncio.run(reachable(apply_topics(kafka_bootstrap(), replication=replication), "kafka_bootstrap"))
    _show(done, as_json=as_json, nothing="nothing to do: the broker has what the registry says")


def _show(diff: TopicDiff, *, as_json: bool, nothing: str) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(diff), indent=2))
        return
    for topic in diff.missing:
        typer.echo(f"+ {topic.name}  {topic.partitions} partitions")
    for name, changes in diff.settings.items():
        for setting, (old, new) in changes.items():
            typer.echo(f"~ {name}  {setting}: {old} → {new}")
    for conflict in diff.conflicts:
        typer.echo(f"! {conflict}")
    if diff.is_empty:
        typer.echo(nothing)
