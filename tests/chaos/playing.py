"""Plays the conversations of a plan, and keeps what each turn saw."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import plan
from tests.chaos.client import GaveUpError, Reach, exchange, read_stream
from tests.chaos.plan import Conversation, Turn
from tests.chaos.reading import Reading


@dataclass(slots=True)
class Played:
    """One turn as it went: the ids it was given, what its reader has. `faults` are broken promises."""

    turn: Turn
    session_id: str
    began_s: float
    reading: Reading = field(default_factory=Reading)
    message_id: str = ""
    completion_id: str = ""
    cancelled_as: str = ""
    ended_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def is_answer(self) -> bool:
        """Neither cancelled nor deleted."""
        return self.turn.end == "answer"


@dataclass(slots=True)
class PlayedConversation:
    """A session and its turns in order; `is_deleted` if its user deleted it."""

    session_id: str
    turns: list[Played] = field(default_factory=list)

    @property
    def is_deleted(self) -> bool:
        """Whether its end was a DELETE."""
        return any(played.turn.end == "delete" for played in self.turns)


class Slot:
    """One user, who talks until the time is over."""

    def __init__(self, reach: Reach, seed: int, number: int, played: list[PlayedConversation]) -> None:
        self._reach = reach
        self._seed = seed
        self._number = number
        self._played = played

    async def talk(self, until_s: float) -> None:
        """Begins no turn after `until_s`; one that has begun is played to its end."""
        await asyncio.sleep(self._number * 0.05)
        n = 0
        while self._reach.now_s() < until_s:
            await self._converse(plan.conversation(self._seed, self._number, n), until_s)
            n += 1

    async def _converse(self, conversation: Conversation, until_s: float) -> None:
        rng = random.Random(conversation.key)
        reading = Reading()
        try:
            _, session = await exchange(
                self._reach,
                rng,
                reading.history,
                "POST",
                "/api/v1/sessions",
                expected={201, 202},
                body={},
                key=conversation.key,
            )
        except GaveUpError as error:
            lost = Played(conversation.turns[0], "", self._reach.now_s(), reading, faults=[str(error)])
            self._played.append(PlayedConversation("", [lost]))
            return
        kept = PlayedConversation(session["id"])
        self._played.append(kept)
        for turn in conversation.turns:
            played = Played(turn, session["id"], self._reach.now_s())
            kept.turns.append(played)
            try:
                await _play(self._reach, played)
            except GaveUpError as error:
                played.faults.append(str(error))
            played.ended_s = self._reach.now_s()
            if played.faults or self._reach.now_s() >= until_s:
                return


async def _play(reach: Reach, played: Played) -> None:
    """Posts, reads, and cancels or deletes in the middle. Raises: GaveUpError."""
    turn, rng = played.turn, random.Random(played.turn.seed)
    path = f"/api/v1/sessions/{played.session_id}/messages"
    body = {"content": turn.question, "model": turn.model}

    async def post() -> Any:
        history = played.reading.history
        return (await exchange(reach, rng, history, "POST", path, expected={202}, body=body, key=turn.key))[1]

    answers = await asyncio.gather(*(post() for _ in range(2 if turn.is_posted_twice else 1)))
    if len({(a["message"]["id"], a["completion"]["id"]) for a in answers}) != 1:
        played.faults.append("one key was answered with two ids")
    played.message_id, played.completion_id = answers[0]["message"]["id"], answers[0]["completion"]["id"]
    played.reading.history.tell(reach.now_s(), f"completion {played.completion_id}")
    stream = answers[0]["completion"]["stream_url"]
    if played.is_answer:
        await read_stream(reach, rng, played.reading, stream, cuts=True)
    else:
        await _interrupt(reach, rng, played, stream)


async def _interrupt(reach: Reach, rng: random.Random, played: Played, stream: str) -> None:
    """A user who loses patience after some characters. Raises: GaveUpError."""
    turn, seen = played.turn, asyncio.Event()

    def on_text(n_characters: int) -> None:
        if n_characters >= turn.end_after_characters:
            seen.set()

    deletes = turn.end == "delete"
    reading = asyncio.create_task(
        read_stream(reach, rng, played.reading, stream, cuts=True, may_vanish=deletes, on_text=on_text)
    )
    waiting = asyncio.create_task(seen.wait())
    await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    history, other = played.reading.history, random.Random(f"{turn.seed}/end")
    try:
        if deletes:
            path = f"/api/v1/sessions/{played.session_id}"
            await exchange(reach, other, history, "DELETE", path, expected={202, 204, 404}, key=f"{turn.key}-end")
        else:
            path = f"/api/v1/completions/{played.completion_id}/cancel"
            found = await exchange(reach, other, history, "POST", path, expected={200, 202}, key=f"{turn.key}-end")
            played.cancelled_as = found[1]["status"]
    finally:
        await reading
