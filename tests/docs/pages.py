"""The pages that are generated: `python -m tests.docs.pages` writes them, `test_pages.py` compares them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ragline.cli.main import app
from ragline.settings import ModelSettings, Settings
from telemetry.metrics import METRICS
from tests.docs.reference import events_page, http_page

DOCS = Path(__file__).absolute().parents[2] / "docs"

_SETTINGS_HEAD = """# Settings

A setting is taken from the environment (`RAGLINE_…`, sections with `__`), else from `ragline.toml` in the working
directory (else in the home folder), else it has its default. What counts in a folder, and where it comes from:

```sh
.venv/bin/ragline settings
```

A wrong value stops the start with one line: the setting, the value, what is allowed.
"""
_MODELS_HEAD = """
## Models

As many as wanted; the first is the default. In the environment, `RAGLINE_MODELS` holds a JSON list.

```toml
[[models]]
name = "fast"
model = "openai/gpt-4o-mini"
api_key = "env:OPENAI_API_KEY"
prefill = true
```
"""
_CLI_HEAD = """# Commands

`ask` and `upload` find the `ragline dev` of the folder by themselves (`.ragline/ready.json`, or that of
`RAGLINE_HOME`); elsewhere, give `--url` and `--api-key`, or the settings `client.url` and `client.api_key`. What is
written to a pipe is plain; an answer that a model had to begin anew is announced on the error output, and `--json`
holds the final text only.

```sh
.venv/bin/ragline --version
.venv/bin/ragline upload docs/index.md
.venv/bin/ragline ask --json "What is a command?"
.venv/bin/ragline settings --json
.venv/bin/ragline migrate --check
.venv/bin/ragline topics diff
```
"""
_METRICS_HEAD = """# Metrics

An edge serves them at `GET /metrics`. Workers and the relay serve them, and `/health/live` and `/health/ready`, on a
port of their own:

```toml
[telemetry]
metrics_port = 9464
```

A histogram has `_bucket`, `_sum` and `_count` series; its `_count` counts what it measures. Every process shows every
name; it moves what it does itself, so sum over processes. The relay counts what waits: lags and queues.
"""


def settings_page() -> str:
    """`docs/settings.md`."""
    lines = [_SETTINGS_HEAD, "| setting | default | |", "|---|---|---|"]
    lines += _rows(Settings, "")
    lines += [_MODELS_HEAD, "| of each model | default | |", "|---|---|---|", *_rows(ModelSettings, "")]
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel):
            yield from _rows(info.annotation, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {_default(info)} | {_described(info)} |"


def _default(info: FieldInfo) -> str:
    value: Any = info.get_default(call_default_factory=True)
    if info.is_required():
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "", (), {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _described(info: FieldInfo) -> str:
    limits = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}
    bounds = [
        f"{sign} {getattr(bound, kind.lower())}"
        for bound in info.metadata
        for kind, sign in limits.items()
        if type(bound).__name__ == kind
    ]
    return "; ".join([*([info.description] if info.description else []), *([", ".join(bounds)] if bounds else [])])


def cli_page() -> str:
    """`docs/cli.md`."""
    return _CLI_HEAD + "".join(_command_pages(typer.main.get_command(app), "ragline"))


def _command_pages(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        yield _command_page(command, f"{path} {name}")
        if hasattr(command, "commands"):
            yield from _command_pages(command, f"{path} {name}")


def _command_page(command: Any, path: str) -> str:
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, *(_argument(p) for p in arguments)])
    lines = [f"\n## `{usage}`\n", inspect.cleandoc(command.help or "")]
    if options or any(getattr(p, "help", None) for p in arguments):
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| `{_argument(p)}` | {_help(p)} |" for p in arguments]
        lines += [f"| `{_option(p)}` | {_help(p)} |" for p in options]
    return "\n".join(lines) + "\n"


def _help(parameter: Any) -> str:
    return (getattr(parameter, "help", None) or "").replace("|", "\\|")


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    return " / ".join([*parameter.opts, *parameter.secondary_opts])


def metrics_page() -> str:
    """`docs/metrics.md`."""
    lines = [_METRICS_HEAD]
    room = ""
    for metric in METRICS.values():
        if metric.name.partition("_")[0] != room:
            room = metric.name.partition("_")[0]
            lines += [f"\n## `{room}_*`\n", "| metric | type, unit | means | if it is bad |", "|---|---|---|---|"]
        labels = "{" + ", ".join(metric.labels) + "}" if metric.labels else ""
        lines.append(f"| `{metric.name}{labels}` | {metric.kind}, {metric.unit} | {metric.meaning} | {metric.remedy} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "settings.md": settings_page,
    "cli.md": cli_page,
    "events.md": events_page,
    "http.md": http_page,
    "metrics.md": metrics_page,
}

if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (DOCS / file_name).write_text(page())
