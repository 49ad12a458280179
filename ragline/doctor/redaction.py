"""What may leave this machine in a report: no key, password or token, and nothing that somebody wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from ragline.dev_stack.ready_file import IN_HOME
from ragline.settings import Settings, SettingsError, resolve_secret, secrets_in_environment

MASK = "********"
SHORTEST = 5
"""A password of four letters is a part of too many words."""
_SECRETS = "secrets.json"

_SHAPES = (
    (re.compile(r"(://[^\s/@:]*):[^\s/]+@"), rf"\1:{MASK}@"),
    (re.compile(r"(https?://)[^\s/@]+@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|signature|credential)\w*"
            r"[\"']?\s*[=:]\s*[\"']?)(?!\*{8})[^\s\"',;&]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b[0-9a-fA-F]{40,}\b"), MASK),
    (re.compile(r"\b(?:sk|pk|rk|xai|gsk|hf|ghp|AIza)[-_]?[A-Za-z0-9_-]{16,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), MASK),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"(\bhttps?://[^\s?\"']+|\s/[^\s?\"']+)\?[^\s\"']+"), r"\1?…"),
)


class Redactor:
    """Masks the secrets that are known, and whatever has the shape of one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """`text` without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape, masked in _SHAPES:
            text = shape.sub(masked, text)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value without secrets."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {str(key): self.value(one) for key, one in value.items()}
            case list() | tuple():
                return [self.value(one) for one in value]
            case _:
                return value


def known_secrets(settings: Settings) -> set[str]:
    """Every secret that settings, environment and home hold, whole and as its parts."""
    return {part for secret in _whole_secrets(settings) for part in _parts(secret)}


def written_secrets(settings: Settings) -> set[str]:
    """Those that stand in the settings themselves, not as the name of a variable."""
    written = [secret for given in _given(settings) if not (secret := given.get_secret_value()).startswith("env:")]
    return {part for secret in written for part in _parts(secret)}


def _whole_secrets(settings: Settings) -> Iterator[str]:
    for given in _given(settings):
        with suppress(SettingsError):  # it names a variable that is not set
            yield resolve_secret(given, "") or ""
    yield from secrets_in_environment()
    for address in _addresses(settings):
        with suppress(ValueError):
            yield from (value for values in parse_qs(urlsplit(address).query).values() for value in values)
        yield from _passwords(address)
    for name in (_SECRETS, IN_HOME):
        with suppress(OSError, ValueError, AttributeError):  # there is none, or it is none
            kept = json.loads((settings.home / name).read_text())
            yield from (str(value) for key, value in kept.items() if re.search("key|password|email|dsn", key))


def _given(settings: Settings) -> Iterator[SecretStr]:
    yield from (value for value in _values(settings) if isinstance(value, SecretStr))


def _addresses(settings: Settings) -> Iterator[str]:
    yield from (value for value in _values(settings) if isinstance(value, str) and "://" in value)


def _values(setting: object) -> Iterator[object]:
    """Every single value, of sections and lists, too."""
    if isinstance(setting, BaseModel):
        for name in type(setting).model_fields:
            yield from _values(getattr(setting, name))
    elif isinstance(setting, tuple):
        for one in setting:
            yield from _values(one)
    else:
        yield setting


def _parts(secret: str) -> Iterator[str]:
    """An address is no secret, only its password is; else all of it."""
    if "://" in secret or "password=" in secret:
        yield from _passwords(secret)
    else:
        yield secret


def _passwords(address: str) -> list[str]:
    """As they stand in it, and unquoted."""
    found = re.findall(r"://[^/@:]*:(.+)@", address) + re.findall(r"\bpassword=([^\s&]+)", address)
    with suppress(ValueError):
        split = urlsplit(address)
        found += [split.password or "", *parse_qs(split.query).get("password", [])]
        if split.scheme.startswith("http"):  # as the key in a Sentry DSN
            found.append(split.username or "")
    return [form for one in found if one for form in (one, unquote(one))]
