"""What a PromQL expression asks for."""

from __future__ import annotations

import re

from telemetry.metrics import METRICS

_BARE = re.compile(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)|\boffset\s+\w+")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")
_WORDS = {
    "histogram_quantile", "rate", "increase", "sum", "min", "max", "count", "absent", "unless", "and", "or", "le",
}  # fmt: skip
_LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
_ADDED = {"le", "instance", "job"}
"""What Prometheus and histograms add to a series."""


def series(expression: str) -> set[str]:
    """The names of the series that an expression reads."""
    return set(_NAME.findall(_BARE.sub(" ", expression.partition("#")[0]))) - _WORDS


def labels(expression: str) -> set[str]:
    """The labels that an expression names."""
    grouped = {name.strip() for group in _GROUPED.findall(expression) for name in group.split(",")} - {""}
    return (set(_LABELS.findall(expression)) | grouped) - _ADDED


def metric_of(name: str) -> str | None:
    """The metric that a series belongs to."""
    if name in METRICS:
        return name if METRICS[name].kind != "histogram" else None
    for suffix in ("_bucket", "_sum", "_count"):
        stem = name.removesuffix(suffix)
        if stem != name and stem in METRICS and METRICS[stem].kind == "histogram":
            return stem
    return None
