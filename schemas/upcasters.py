"""How a record of an older version is read as the newer one: old records stand in logs and archives for ever.

A topic holds its upcasters (`Topic.upcasters`); `schemas.envelope` applies them wherever a record is decoded, so that
consumers, rebuilds and redriven dead letters know the newest version only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from schemas.records import Body

OldT = TypeVar("OldT", bound=Body)
NewT = TypeVar("NewT", bound=Body)


@dataclass(frozen=True)
class Upcaster(Generic[OldT, NewT]):
    """One step, from `old` to the next version `new`. `change` is pure, and defined for every body of `old`."""

    old: type[OldT]
    new: type[NewT]
    change: Callable[[OldT], NewT]


AnyUpcaster = Upcaster[Any, Any]
