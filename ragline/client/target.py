"""Which server to ask: what the command line says, else the settings, else the `ragline dev` of the home folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ragline.client.errors import UnreachableError, WrongUseError
from ragline.dev_stack.ready_file import IN_HOME
from ragline.settings import Settings, resolve_secret

DEFAULT_URL = "http://127.0.0.1:8080"


class _Process(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str
    url: str | None = None


class HomeStack(BaseModel):
    """What a running `ragline dev` says of itself in `HOME/ready.json` (design §2)."""

    model_config = ConfigDict(extra="ignore")

    base_url: str
    api_key: str
    kafka_bootstrap: str
    postgres_dsn: str
    processes: list[_Process] = []

    @property
    def urls(self) -> tuple[str, ...]:
        """Every edge, the first one first."""
        others = [p.url for p in self.processes if p.role == "edge" and p.url and p.url != self.base_url]
        return (self.base_url, *others)


@dataclass(frozen=True, slots=True)
class Target:
    """Edges of one Ragline (any of them serves any request) and the key for them."""

    urls: tuple[str, ...]
    api_key: str


def home_stack(home: Path) -> HomeStack | None:
    """The stack that runs in this home, or None. A stack that was killed may have left its file."""
    try:
        return HomeStack.model_validate(json.loads((home / IN_HOME).read_text()))
    except (OSError, ValueError, ValidationError):
        return None


def find_target(settings: Settings, *, urls: tuple[str, ...] = (), api_key: str | None = None) -> Target:
    """Where to send requests. A home's key goes to its own edges only.

    Raises: UnreachableError if no key is known; WrongUseError for an address that is none.
    """
    stack = home_stack(settings.home)
    client = settings.client
    if urls:
        chosen = tuple(_clean(url) for url in urls)
    elif client.url is not None:
        chosen = (_clean(client.url),)
    else:
        chosen = stack.urls if stack is not None else (DEFAULT_URL,)
    key = api_key or resolve_secret(client.api_key, "client.api_key")
    if key is None and stack is not None and set(chosen) <= set(stack.urls):
        key = stack.api_key
    if key is None:
        raise UnreachableError(_no_key(settings, chosen, nothing_named=not urls and client.url is None))
    if not key.isascii() or not key.isprintable() or " " in key:
        raise WrongUseError("the API key holds characters that no key has; copy it again")
    return Target(chosen, key)


def _clean(url: str) -> str:
    cleaned = url.rstrip("/")
    if not cleaned.startswith(("http://", "https://")) or cleaned.endswith("//"):
        raise WrongUseError(f'"{url}" is no server address; give it as http://HOST:PORT')
    return cleaned


def _no_key(settings: Settings, chosen: tuple[str, ...], *, nothing_named: bool) -> str:
    if nothing_named:
        return (
            f"no Ragline runs in {settings.home}; start `make dev` in this folder, set RAGLINE_HOME to the home of a "
            "running one, or give --url and --api-key"
        )
    return f"no API key for {chosen[0]}; give --api-key or set RAGLINE_CLIENT__API_KEY"
