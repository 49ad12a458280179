"""What must hold of every stream, whatever was killed. Pure: evidence in, broken promises out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.evidence import Evidence, LoggedStream
from tests.chaos.plan import BEGINS_ANEW
from tests.chaos.playing import Played, PlayedConversation
from tests.chaos.reading import Reading
from tests.provider_server import answer_text

Message = Mapping[str, Any]


def stream_faults(played: Played, evidence: Evidence, ai: Message | None, late: Reading | None) -> list[str]:
    """Of one turn: `ai` is its message as listed, `late` a reader who came when all was over (None: deleted)."""
    faults = [*played.faults, *played.reading.faults]
    if not played.completion_id:
        return faults or ["never posted"]
    row, log = evidence.completions.get(played.completion_id), evidence.streams.get(played.completion_id)
    if row is None or log is None:
        return [*faults, f"{'no row' if row is None else 'no record in the log'}"]
    expected = answer_text(played.turn.question)
    faults += usage_faults(row, log, evidence, played.completion_id)
    faults += _reset_faults(played, row)
    if len(log.ends) != 1:
        faults.append(f"{len(log.ends)} StreamEnded")
    if played.is_answer:
        faults += _answer_faults(played, row, log, expected)
    elif played.turn.end == "cancel":
        faults += _cancel_faults(played, row, log, expected)
    elif not expected.startswith(played.reading.text):
        faults.append("a deleted stream said something else than the provider")
    if played.turn.end != "delete":
        faults += _stored_faults(played, row, ai, late)
    return faults


def _answer_faults(played: Played, row: Mapping[str, Any], log: LoggedStream, expected: str) -> list[str]:
    faults = []
    if played.reading.terminal != "complete":
        faults.append(f"ended as {played.reading.terminal or 'nothing'}: {row['error_code']} {row['error_message']}")
    if played.reading.text != expected:
        faults.append(f"the reader's text is not the provider's: {first_difference(played.reading.text, expected)}")
    stored = [row["checkpoint_epoch"], row["checkpoint_end"], row["checkpoint_seq"], json.loads(row["chunk_ends"])]
    state = log.state
    if stored != [state.epoch, state.end, state.seq, list(state.chunk_ends)]:
        faults.append(f"the stored fold is not the log's: {stored[:3]}, not {[state.epoch, state.end, state.seq]}")
    if log.text != expected:
        faults.append(f"the log's text is not the provider's: {first_difference(log.text, expected)}")
    return faults


def _cancel_faults(played: Played, row: Mapping[str, Any], log: LoggedStream, expected: str) -> list[str]:
    faults = []
    if row["status"] not in {"cancelled", "complete"}:
        faults.append(f"cancelled, but ended as {row['status']}: {row['error_code']}")
    if played.cancelled_as in {"cancelled", "complete"} and played.cancelled_as != row["status"]:
        faults.append(f"the cancel was answered with {played.cancelled_as}, stored is {row['status']}")
    if played.reading.text != log.text or not expected.startswith(log.text):
        faults.append(f"the reader's text is not the log's: {first_difference(played.reading.text, log.text)}")
    return faults


def _stored_faults(played: Played, row: Mapping[str, Any], ai: Message | None, late: Reading | None) -> list[str]:
    """Reader, stored message and late reader say the same."""
    reading, faults = played.reading, []
    if ai is None:
        return ["its message is not listed"]
    stored = ai["content"] if ai["status"] == "complete" else ai["partial_content"]
    if (ai["status"], row["status"]) != (reading.terminal, reading.terminal):
        faults.append(f"the reader was told {reading.terminal}; message {ai['status']}, completion {row['status']}")
    if stored != reading.text:
        faults.append(f"stored is not what was read: {first_difference(stored or '', reading.text)}")
    if late is not None:
        faults += [f"late reader: {fault}" for fault in late.faults]
        if (late.text, late.terminal, late.last_id) != (reading.text, reading.terminal, reading.last_id):
            faults.append(f"a late reader has {late.terminal} {late.last_id}, the first {reading.last_id}")
    return faults


def usage_faults(row: Mapping[str, Any], log: LoggedStream, evidence: Evidence, id_: str) -> list[str]:
    """Once per attempt: each that wrote or ended is counted, none that never was, and Kafka has what the row has."""
    counted = evidence.outbox_usage.get(id_, {})
    faults = []
    if missing := (log.attempts_with_text | log.finished.keys()) - counted.keys():
        faults.append(f"attempts {sorted(missing)} wrote, but have no usage; counted are {sorted(counted)}")
    if foreign := {attempt for attempt in counted if not 1 <= attempt <= row["attempt"]}:
        faults.append(f"usage of attempts that never were: {sorted(foreign)}")
    faults += [
        f"attempt {attempt} ended with {usage}, counted is {counted[attempt]}"
        for attempt, usage in log.finished.items()
        if attempt in counted and counted[attempt] != usage
    ]
    if evidence.published_usage.get(id_, {}) != counted:
        faults.append("the usage topic is not the outbox")
    total = (sum(u.input_tokens for u in counted.values()), sum(u.output_tokens for u in counted.values()))
    if total != (row["input_tokens"], row["output_tokens"]):
        faults.append(f"the row sums up {row['input_tokens']} + {row['output_tokens']} tokens, its attempts {total}")
    return faults


def _reset_faults(played: Played, row: Mapping[str, Any]) -> list[str]:
    """Only a model that cannot continue restarts, and never more often than it was called again."""
    n_resets = played.reading.n_resets
    if played.turn.model != BEGINS_ANEW:
        return [f"{n_resets} resets of a model that can continue"] if n_resets or row["checkpoint_epoch"] else []
    return [f"{n_resets} resets in {row['attempt']} attempts"] if n_resets >= row["attempt"] and n_resets else []


def list_faults(conversation: PlayedConversation, listed: Sequence[Message]) -> list[str]:
    """Each message once, in order, under the ids that were told."""
    said = [(turn.message_id, turn.turn.question) for turn in conversation.turns if turn.message_id]
    found = [(message["id"], message["content"]) for message in listed if message["sender"] == "user"]
    senders = [message["sender"] for message in listed]
    if found != said or senders != ["user", "ai"] * len(said):
        shown = [f"{message['sender']} {message['id']}" for message in listed]
        return [f"listed are {shown}, said was {[id_ for id_, _ in said]}"]
    answers = [message["completion_id"] for message in listed if message["sender"] == "ai"]
    if answers != [turn.completion_id for turn in conversation.turns if turn.message_id]:
        return [f"answers by {answers}"]
    return []


def whole_faults(conversations: Sequence[PlayedConversation], evidence: Evidence) -> list[str]:
    """Of the stores as a whole: nothing more than what was said, nothing dead-lettered."""
    n_turns = sum(bool(turn.message_id) for conversation in conversations for turn in conversation.turns)
    n_sessions = sum(bool(conversation.session_id) for conversation in conversations)
    counted = [
        ("sessions", evidence.n_sessions, n_sessions),
        ("messages", evidence.n_messages, 2 * n_turns),
        ("completions", len(evidence.completions), n_turns),
        ("dead letters", evidence.n_dead_letters, 0),
    ]
    wrong = [f"{found} {what}, not {wanted}" for what, found, wanted in counted if found != wanted]
    return [*wrong, *evidence.counted_twice]


def first_difference(found: str, expected: str) -> str:
    """Where two texts part."""
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
    around = slice(max(0, at - 10), at + 20)
    return f"at {at} of {len(found)}/{len(expected)}: {found[around]!r}, not {expected[around]!r}"
