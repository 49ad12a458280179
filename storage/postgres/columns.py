"""Kinds of columns that many tables have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, func
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id: the commit order of the outbox."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The column's type in DDL."""
        return "xid8"


ischema_names["xid8"] = Xid8


def timestamp(**kwargs: Any) -> Any:
    """A moment, with its zone."""
    return Column(DateTime(timezone=True), **kwargs)


def default_of(value: str | int) -> Any:
    """A default that holds for raw inserts too."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return Field(default=value, sa_column_kwargs={"server_default": shown})


def inserted_at() -> Any:
    """When the row was inserted, where nobody says."""
    return Field(default=None, sa_column=timestamp(nullable=False, server_default=func.now()))
