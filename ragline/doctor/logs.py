"""The logs of a home, as they may be shown: what happened and where, without what people wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ragline.doctor.redaction import Redactor

TAIL_BYTES = 256 * 1024

_STAMPED = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")
"""How a line of Ragline, Kafka or PostgreSQL begins."""
_STATEMENT = re.compile(r"(?:STATEMENT|DETAIL|CONTEXT|QUERY|PARAMETERS):", re.IGNORECASE)
"""PostgreSQL's lines with what a query held."""
_FRAME = re.compile(r'\s+File "[^"]+", line \d+, in \S+$')
_FIXED = re.compile(r"(?:\s*\|?\s*(?:\+-*\s*)?)?(?:Exception Group )?Traceback \(most recent call last\):$")
_RAISED = re.compile(
    r"((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Violation|Retry|Reject|DeadLetter|Stop))(?::.*)?$"
)
_QUOTED = re.compile(r"""(?<!\w)(?:(["'`]).*\1|["'`].*|[«“„‘].*[»”“’]|[«“„‘].*)""")
_ASSIGNED = re.compile(r"=\(.*\)|=\[.*\]|=\{.*\}")


_FIELDS = ("time", "level", "process", "logger", "message", "trace_id", "error")
"""Of a line that is a JSON object (`log_format = "json"`)."""


def log_tails(home: Path, redactor: Redactor) -> Iterator[tuple[str, str]]:
    """Name and shown text of every log of the home, of each its last quarter of a MiB."""
    for path in sorted((home / "logs").glob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        yield path.name, "".join(f"{line}\n" for line in shown(lines, redactor))


def shown(lines: list[str], redactor: Redactor) -> Iterator[str]:
    """The lines whose form is known, quotations and bracketed values left out; the others are only counted.

    A traceback keeps its frames and the name of what was raised.
    """
    n_left_out = 0
    for line in lines:
        kept = _kept(line)
        if kept is None:
            n_left_out += 1
            continue
        if n_left_out:
            yield f"[{n_left_out} lines left out]"
            n_left_out = 0
        yield redactor.text(kept)
    if n_left_out:
        yield f"[{n_left_out} lines left out]"


def _kept(line: str) -> str | None:
    if line.startswith("{"):
        return _kept_of_json(line)
    if _FRAME.fullmatch(line) or _FIXED.fullmatch(line):
        return line
    if _STAMPED.match(line):
        return None if _STATEMENT.search(line) else _unquoted(line)
    if raised := _RAISED.fullmatch(line):
        return raised[1]
    return None


def _kept_of_json(line: str) -> str | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    kept = {name: told[name] for name in _FIELDS if name in told}
    if isinstance(error := kept.get("error"), dict):
        kept["error"] = {name: error[name] for name in ("type", "frames") if name in error}
    return json.dumps(kept | {"message": _unquoted(str(told.get("message", "")))}, ensure_ascii=False)


def _unquoted(text: str) -> str:
    return _ASSIGNED.sub("=…", _QUOTED.sub("…", text))
