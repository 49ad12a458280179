"""What a seed decides: the conversations, how their answers are disturbed, and when what is struck."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Role = Literal["worker", "edge", "relay", "kafka", "postgres"]
ROLES: tuple[Role, ...] = ("worker", "edge", "relay", "kafka", "postgres")
GOES_ON, BEGINS_ANEW, INTERRUPTED = "goes-on", "begins-anew", "interrupted"
MODELS = (GOES_ON, BEGINS_ANEW, INTERRUPTED)

TOKENS_PER_S = 40.0
_WEIGHTS: dict[Role, int] = {"worker": 7, "edge": 4, "relay": 1, "kafka": 2, "postgres": 2}
_SHARE_OF_FREEZES = 0.3
_FROZEN_S = (0.5, 4.0)
_BROKER_COMES_BACK_S = 5.0  # without it nothing moves: blows that find nobody at work prove little
_DISTURBANCES = ("drop_after={at}", "error_status=429 retry_after=1", "error_status=503")


@dataclass(frozen=True, slots=True)
class Strike:
    """One blow, `at_s` seconds after the start; `pick` in [0, 1) chooses among the role's processes."""

    at_s: float
    role: Role
    freeze_s: float | None
    pick: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and what its reader does. `seed` is for the choices that are made on the way."""

    key: str
    question: str
    model: str
    n_tokens: int
    is_disturbed: bool
    is_posted_twice: bool
    end: Literal["answer", "cancel", "delete"]
    end_after_characters: int
    seed: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one session, one after another."""

    key: str
    turns: tuple[Turn, ...]


def strikes(seed: int, until_s: float, *, gap_s: tuple[float, float]) -> list[Strike]:
    """Every role once, in a random order, then by weight. Each role's first blow is a kill."""
    rng = random.Random(f"{seed}/strikes")
    due = rng.sample(ROLES, len(ROLES))
    found: list[Strike] = []
    at_s = rng.uniform(*gap_s)
    while at_s < until_s:
        is_first = bool(due)
        role = due.pop() if due else rng.choices(ROLES, [_WEIGHTS[r] for r in ROLES])[0]
        freezes = rng.random() < _SHARE_OF_FREEZES and not is_first
        found.append(Strike(at_s, role, rng.uniform(*_FROZEN_S) if freezes else None, rng.random()))
        at_s += rng.uniform(*gap_s) + (_BROKER_COMES_BACK_S if role == "kafka" and not freezes else 0.0)
    return found


def conversation(seed: int, slot: int, number: int) -> Conversation:
    """The `number`-th conversation of a slot: mostly one to three answers; one in six is cancelled or deleted."""
    rng = random.Random(f"{seed}/{slot}/{number}")
    name = f"{seed}-{slot}-{number}"
    if rng.random() < 1 / 6:
        return Conversation(_key(rng), (_interrupted(rng, f"{name}-0"),))
    return Conversation(_key(rng), tuple(_answered(rng, f"{name}-{n}") for n in range(rng.randint(1, 3))))


def _answered(rng: random.Random, name: str) -> Turn:
    n_tokens = rng.randint(60, 360)
    disturbance = rng.choice(_DISTURBANCES).format(at=rng.randint(0, n_tokens - 1)) if rng.random() < 0.25 else ""
    directive = f"n_tokens={n_tokens} {disturbance}{' times=1' if disturbance else ''}".rstrip()
    return Turn(
        key=_key(rng),
        question=f"What of {name}? [[{directive}]]",
        model=GOES_ON if rng.random() < 0.75 else BEGINS_ANEW,
        n_tokens=n_tokens,
        is_disturbed=bool(disturbance),
        is_posted_twice=rng.random() < 0.15,
        end="answer",
        end_after_characters=0,
        seed=f"{name}/reader",
    )


def _interrupted(rng: random.Random, name: str) -> Turn:
    n_tokens = rng.randint(150, 300)
    return Turn(
        key=_key(rng),
        question=f"What of {name}? [[n_tokens={n_tokens}]]",
        model=INTERRUPTED,
        n_tokens=n_tokens,
        is_disturbed=False,
        is_posted_twice=False,
        end="cancel" if rng.random() < 0.6 else "delete",
        end_after_characters=rng.randint(0, n_tokens * 4),
        seed=f"{name}/reader",
    )


def _key(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))
