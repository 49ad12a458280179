"""What a check finds, and how the checks are run: at once, each group within a time of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from ragline.settings import Settings
from schemas.errors import RaglineError

logger = logging.getLogger(__name__)

Status = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result; `remedy` is a sentence that names a command or a setting, empty where nothing is to do."""

    name: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the settings with the addresses that count, the known edges, and this machine's clock."""

    settings: Settings
    edges: tuple[str, ...] = ()
    asks_models: bool = True
    wall_s: Callable[[], float] = time.time

    @property
    def dsn(self) -> str:
        """PostgreSQL's address, with its password."""
        return self.settings.postgres_dsn.get_secret_value()


Look = Callable[[Patient], AsyncGenerator[Finding, None]]


@dataclass(frozen=True, slots=True)
class Group:
    """Checks that ask one server, in an order in which each is needed by the next; `remedy` if it does not answer."""

    name: str
    look: Look
    remedy: str
    within_s: float = 30.0


async def examine(patient: Patient, groups: Sequence[Group]) -> list[Finding]:
    """Every finding, in the order of the groups; a server that is away ends its own group alone, in its time."""
    return [one for found in await asyncio.gather(*(_examined(patient, group) for group in groups)) for one in found]


async def _examined(patient: Patient, group: Group) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(group.within_s), aclosing(group.look(patient)) as looking:
            async for one in looking:
                found.append(one)  # noqa: PERF401 - what was found before it fails is kept
    except TimeoutError:
        found.append(Finding(group.name, "wrong", f"no answer within {group.within_s:g} s", group.remedy))
    except RaglineError as error:
        found.append(Finding(group.name, "wrong", str(error), group.remedy))
    except Exception as error:
        logger.debug("the checks of %s ended", group.name, exc_info=error)
        found.append(Finding(group.name, "wrong", f"{type(error).__name__}: {error}", group.remedy))
    return found
