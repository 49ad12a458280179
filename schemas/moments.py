"""Moments as clients may send them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime
from pydantic_core import PydanticCustomError


def _in_utc(time: datetime) -> datetime:
    """The same moment. Raises: PydanticCustomError for one that has none in UTC (year 0 or 10000)."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("no_time", "must lie between the years 1 and 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
