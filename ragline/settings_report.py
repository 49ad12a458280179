"""The effective settings for people: every value with its source, secrets masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from ragline.settings import Settings, SettingSources

MASK = "********"
_CREDENTIALS = re.compile(r"://[^\s/@]+@")
"""Those that stand in an address, as of a gateway before a model's server."""
_PREFIX, _NESTED = "RAGLINE_", "__"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as every process sees it; `source` is `environment`, `ragline.toml` or `default`."""

    name: str
    value: Any
    source: str
    where: str


def report(settings: Settings, sources: SettingSources) -> list[EffectiveSetting]:
    """Every setting in the order of its declaration; models as `models.0.name`."""
    return [
        EffectiveSetting(".".join(path), _shown(path[-1], value), *_source(path, sources))
        for path, value in _leaves((), settings)
    ]


def _leaves(path: tuple[str, ...], value: object) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves((*path, name), getattr(value, name))
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves((*path, name), item)
    elif isinstance(value, tuple) and value:
        for number, item in enumerate(value):
            yield from _leaves((*path, str(number)), item)
    else:
        yield path, value


def _source(path: tuple[str, ...], sources: SettingSources) -> tuple[str, str]:
    if _holds(sources.environment, path):
        return "environment", _variable(path)
    if _holds(sources.toml, path):
        return "ragline.toml", str(sources.toml_file)
    return "default", ""


def _holds(values: Any, path: tuple[str, ...]) -> bool:
    for step in path:
        if isinstance(values, list | tuple) and step.isdecimal() and int(step) < len(values):
            values = values[int(step)]
        elif isinstance(values, dict) and step in values:
            values = values[step]
        else:
            return False
    return True


def _variable(path: tuple[str, ...]) -> str:
    names = path[: next((n for n, step in enumerate(path) if step.isdecimal()), len(path))]
    return _PREFIX + _NESTED.join(names).upper()


def _shown(name: str, value: object) -> Any:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _without_password(secret) if name == "postgres_dsn" else secret if secret.startswith("env:") else MASK
    if isinstance(value, str):
        return _CREDENTIALS.sub(f"://{MASK}@", value)
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _without_password(dsn: str) -> str:
    try:
        password = urlsplit(dsn).password
    except ValueError:
        return MASK
    if "password=" in dsn:  # as a query parameter, or libpq's own form
        return MASK
    return dsn.replace(f":{password}@", f":{MASK}@", 1) if password else dsn
