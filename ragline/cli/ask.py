"""`ragline ask`: one question, its answer as it is written, its citations."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ragline.cli.printable import printable

if TYPE_CHECKING:
    from ragline.client.answers import Answer
    from ragline.client.target import Target

Url = Annotated[
    list[str] | None,
    typer.Option("--url", help="An edge's address; more of them stand in for each other. [the `ragline dev` of HOME]"),
]
_OF_TEXT = "\n\t\u200e\u200f\u061c"

ApiKey = Annotated[str | None, typer.Option("--api-key", help="The key. [that of the `ragline dev` of HOME]")]


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    session: Annotated[UUID | None, typer.Option("--session", help="Go on in this session. [a new one]")] = None,
    model: Annotated[str | None, typer.Option(help="One of the configured models. [the first]")] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object at the end: answer, citations, session_id, completion_id, model, usage."
        ),
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a question about your documents and read the answer as it is written.

    Exit codes: 0 answered, 1 the answer failed or was refused, 2 wrong use, 3 no server answers or it does not know
    the key.
    """
    from ragline.client.target import find_target
    from ragline.settings import load_settings

    target = find_target(load_settings(), urls=tuple(url or ()), api_key=api_key)
    answer = asyncio.run(_ask(target, question, session, model, quiet=as_json))
    if as_json:
        typer.echo(_as_json(answer))
    else:
        _show_citations(answer)
    if answer.status != "complete":
        typer.echo(f"error: the answer {answer.status}: {answer.error or 'it was stopped'}", err=True)
        raise typer.Exit(1)


async def _ask(target: Target, question: str, session: UUID | None, model: str | None, *, quiet: bool) -> Answer:
    from ragline.client import answers
    from ragline.client.answers import Answer, Restarted, Said
    from ragline.client.connection import Connection
    from ragline.client.errors import CutError

    async with Connection(target) as connection:
        async for part in answers.ask(connection, question, session_id=session, model=model):
            match part:
                case Answer():
                    return part
                case Said() if not quiet:
                    sys.stdout.write(printable(part.text, keep=_OF_TEXT))
                    sys.stdout.flush()
                case Restarted() if not quiet:
                    sys.stdout.write("\n")
                    sys.stdout.flush()
                    typer.echo("— the model had to begin anew; the answer is what follows —", err=True)
    raise CutError("the stream ended without an answer")


def _as_json(answer: Answer) -> str:
    return json.dumps(
        {
            "answer": answer.text,
            "citations": [
                {
                    "marker": c.marker,
                    "document_id": str(c.document_id),
                    "document": c.document,
                    "page": c.page,
                    "quote": c.quote,
                }
                for c in answer.citations
            ],
            "session_id": str(answer.session_id),
            "completion_id": str(answer.completion_id),
            "status": answer.status,
            "error": answer.error,
            "model": answer.model,
            "usage": answer.usage.model_dump(mode="json") if answer.usage is not None else None,
        },
        ensure_ascii=False,
    )


def _show_citations(answer: Answer) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.print("\n")
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page is not None else ""
        head = Text.assemble((f"[{citation.marker}] ", "cyan"), (f"{printable(citation.document)}{page}", "bold"))
        quote = Text(" ".join(citation.quote.split()), style="dim")
        console.print(head, soft_wrap=True)
        if console.is_terminal:
            console.print(Padding(quote, (0, 0, 0, 4)))
        else:
            console.print("    ", quote, sep="", soft_wrap=True)
    said = [f"model {answer.model}"] if answer.model else []
    console.print(Text(" · ".join([*said, f"session {answer.session_id}"]), style="dim"), soft_wrap=True)
