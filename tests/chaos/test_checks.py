"""The suite's own judgement: evidence of a good stream passes, and each thing that may go wrong with it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.chunks import AttemptFinished, AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded
from schemas.events import TokenUsage
from tests.chaos.checks import list_faults, stream_faults, whole_faults
from tests.chaos.evidence import Evidence, LoggedStream
from tests.chaos.plan import GOES_ON, Turn
from tests.chaos.playing import Played, PlayedConversation
from tests.chaos.reading import Reading
from tests.provider_server import answer_text

ID, MESSAGE = str(uuid4()), str(uuid4())
QUESTION = "What of it? [[n_tokens=9]]"
TEXT = answer_text(QUESTION)
USAGE = TokenUsage(input_tokens=3, output_tokens=9)


class Case:
    """One turn that went well: attempt 1 died, attempt 2 ended it. Tests spoil it."""

    def __init__(self) -> None:
        turn = Turn("key", QUESTION, GOES_ON, 9, False, False, "answer", 0, "seed")
        self.played = Played(turn, "session", 0.0, Reading(text=TEXT, last_id="9", terminal="complete"))
        self.played.message_id, self.played.completion_id = "user", ID
        self.late: Reading = Reading(text=TEXT, last_id="9", terminal="complete")
        self.log = LoggedStream()
        for body in _records():
            self.log.take(body, "end")
        self.ai = {"sender": "ai", "id": "ai", "status": "complete", "content": TEXT, "completion_id": ID}
        self.ai["partial_content"] = ""
        self.listed: list[dict[str, Any]] = [{"sender": "user", "id": "user", "content": QUESTION}, self.ai]
        self.usage = {1: USAGE, 2: USAGE}
        self.published = dict(self.usage)
        self.row = {
            "status": "complete",
            "attempt": 2,
            "checkpoint_epoch": 0,
            "checkpoint_end": len(TEXT),
            "checkpoint_seq": 2,
            "chunk_ends": json.dumps([4, len(TEXT)]),
            "error_code": None,
            "error_message": None,
            "input_tokens": 6,
            "output_tokens": 18,
        }
        self.n_messages, self.n_dead_letters = 2, 0
        self.twice: list[str] = []

    def faults(self) -> list[str]:
        """All that is found."""
        evidence = Evidence(
            {ID: self.row},
            {ID: self.usage},
            {ID: self.published},
            {ID: self.log},
            n_sessions=1,
            n_messages=self.n_messages,
            n_dead_letters=self.n_dead_letters,
            counted_twice=self.twice,
        )
        conversation = PlayedConversation("session", [self.played])
        found = stream_faults(self.played, evidence, self.ai, self.late)
        return [*found, *list_faults(conversation, self.listed), *whole_faults([conversation], evidence)]


def _records() -> list[ChunkRecord]:
    id_, end = UUID(ID), len(TEXT)
    return [
        AttemptOpened(completion_id=id_, attempt=1),
        CompletionChunk(completion_id=id_, attempt=1, epoch=0, seq=1, start=0, end=4, text=TEXT[:4]),
        AttemptOpened(completion_id=id_, attempt=2),
        CompletionChunk(completion_id=id_, attempt=2, epoch=0, seq=2, start=4, end=end, text=TEXT[4:]),
        AttemptFinished(completion_id=id_, attempt=2, epoch=0, end=end, finish_reason="stop", usage=USAGE),
        StreamEnded(completion_id=id_, epoch=0, end=end, status="complete", message_id=UUID(MESSAGE)),
    ]


def test_a_good_stream() -> None:
    assert Case().faults() == []


def _spoil(**changes: Any) -> Callable[[Case], None]:
    """`played__reading__text="x"` sets `case.played.reading.text`; a name in a dict is its key."""

    def change(case: Case) -> None:
        for path, value in changes.items():
            *owners, name = path.split("__")
            target: Any = case
            for owner in owners:
                target = getattr(target, owner)
            if isinstance(target, dict):
                target[name] = value
            else:
                setattr(target, name, value)

    return change


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (_spoil(played__reading__text=TEXT[:-1]), "the reader's text is not the provider's"),
        (_spoil(played__reading__terminal="failed"), "ended as failed"),
        (_spoil(played__reading__n_resets=1), "1 resets of a model that can continue"),
        (_spoil(played__reading__faults=["a bad id"]), "a bad id"),
        (_spoil(played__faults=["one key was answered with two ids"]), "two ids"),
        (_spoil(log__text=TEXT * 2), "the log's text is not the provider's"),
        (_spoil(log__ends=set()), "0 StreamEnded"),
        (_spoil(row__chunk_ends="[1, 2]"), "the stored fold is not the log's"),
        (_spoil(row__checkpoint_epoch=1), "resets of a model that can continue"),
        (_spoil(ai__content="other"), "stored is not what was read"),
        (_spoil(ai__status="in_progress"), "message in_progress"),
        (_spoil(late=Reading(text=TEXT, last_id="8", terminal="complete")), "a late reader has"),
        (_spoil(late=Reading(text="", last_id="9", terminal="complete")), "a late reader has"),
        (_spoil(usage={2: USAGE}, published={2: USAGE}), "attempts [1] wrote, but have no usage"),
        (_spoil(usage={1: USAGE, 2: USAGE, 3: USAGE}), "attempts that never were: [3]"),
        (_spoil(published={}), "the usage topic is not the outbox"),
        (_spoil(row__output_tokens=9), "the row sums up 6 + 9"),
        (_spoil(log__finished={2: TokenUsage(input_tokens=1, output_tokens=1)}), "attempt 2 ended with"),
        (_spoil(listed=[]), "listed are []"),
        (_spoil(ai__completion_id="other"), "answers by ['other']"),
        (_spoil(n_messages=3), "3 messages, not 2"),
        (_spoil(n_dead_letters=1), "1 dead letters, not 0"),
        (_spoil(twice=["usage is counted twice"]), "counted twice"),
    ],
)
def test_what_went_wrong_is_found(spoil: Callable[[Case], None], seen: str) -> None:
    case = Case()
    spoil(case)
    assert any(seen in fault for fault in case.faults()), case.faults()
