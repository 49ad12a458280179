"""Sessions and messages, rebuilt from their events, compared row by row, and mended where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from consumers.rebuild.conversation import Busy, Conversation, Difference, IncompleteHistory, differences, fold
from consumers.rebuild.store import Live, load, lock_session, mend, snapshot, unheard_sessions
from schemas.envelope import Envelope, decode
from schemas.errors import DeadLetter
from schemas.events import SessionEvent
from schemas.topics import CHAT_EVENTS
from storage.archive import ArchivedRecord
from storage.ports import BlobStore
from storage.postgres.history import History, staged_history
from storage.postgres.unit_of_work import Database

SESSION_EVENTS = [ce_type for ce_type, body in CHAT_EVENTS.kept.items() if issubclass(body, SessionEvent)]
"""Of every version. A rejected command changed nothing."""
SHOWN = 20
"""So many of each kind are named; all are counted."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A session that was not compared, and why."""

    session_id: UUID
    reason: str


@dataclass(slots=True)
class ConversationsReport:
    """What was found. `differences` and `left_alone` hold the first `SHOWN`; the busy were not compared either."""

    n_sessions: int = 0
    n_messages: int = 0
    n_different: int = 0
    n_mended: int = 0
    n_busy: int = 0
    n_left_alone: int = 0
    differences: list[Difference] = field(default_factory=list)
    left_alone: list[LeftAlone] = field(default_factory=list)

    def leave(self, session_id: UUID, reason: str) -> None:
        """Notes a session that cannot be compared."""
        self.n_left_alone += 1
        self.left_alone = [*self.left_alone, LeftAlone(session_id, reason)][:SHOWN]

    def differ(self, found: Sequence[Difference]) -> None:
        """Notes rows that are not as the events say."""
        self.n_different += len(found)
        self.differences = [*self.differences, *found][:SHOWN]


async def rebuild_conversations(
    database: Database,
    blobs: BlobStore,
    tenant_id: UUID,
    report: ConversationsReport,
    *,
    execute: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Compares every session of the tenant with its events and adds to `report`; `execute` mends what differs.

    Each session is compared as of one moment and mended in a transaction of its own, under its lock.
    Raises: Retry; what was mended until then stays so, and a repetition goes on.
    """
    async with staged_history(database, blobs, tenant_id, CHAT_EVENTS, SESSION_EVENTS) as history:
        known: list[str] = []
        async for keys in history.keys():
            ids = [UUID(key) for key in keys]
            known += keys
            records = _by_key(await history.records(keys))
            async with database.transaction() as work:
                await snapshot(work)
                later = _by_key(await history.later(work, keys))
                live = await load(work, ids)
            for id_ in ids:
                events = [*records.get(str(id_), ()), *later.get(str(id_), ())]
                if _compare(id_, events, live[id_], report) and execute:
                    await _mend(database, history, id_, records.get(str(id_), ()), report)
            on_progress()
        async with database.transaction() as work:
            await snapshot(work)
            unheard = await unheard_sessions(work, tenant_id, known)
            young = _by_key(await history.later(work, [str(id_) for id_ in unheard]))
        for id_ in unheard:
            if str(id_) not in young:
                report.n_sessions += 1
                report.leave(id_, "there are no events of it")


def _compare(id_: UUID, records: Sequence[ArchivedRecord], live: Live, report: ConversationsReport) -> bool:
    """Whether rows of the session differ from its events."""
    report.n_sessions += 1
    try:
        shadow, found = _differences(records, live)
    except Busy:
        report.n_busy += 1
        return False
    except IncompleteHistory as incomplete:
        report.leave(id_, str(incomplete))
        return False
    report.n_messages += len(shadow.messages)
    report.differ(found)
    return bool(found)


async def _mend(
    database: Database, history: History, id_: UUID, records: Sequence[ArchivedRecord], report: ConversationsReport
) -> None:
    """Compares once more, under the lock, and writes what differs still."""
    async with database.transaction() as work:
        await lock_session(work, id_)
        later = await history.later(work, [str(id_)])
        live = await load(work, [id_])
        try:
            shadow, found = _differences([*records, *later], live[id_])
        except (Busy, IncompleteHistory) as changed:
            report.leave(id_, f"it changed meanwhile: {changed}; rebuild it again")
            return
        await mend(work, shadow, found)
    report.n_mended += len(found)


def _differences(records: Sequence[ArchivedRecord], live: Live) -> tuple[Conversation, list[Difference]]:
    """The shadow of a session and the live rows that are not so. Raises: Busy, IncompleteHistory."""
    if live.open:
        raise Busy(f"completion {min(live.open)} is open")
    shadow = fold(_decoded(record) for record in records)
    version = shadow.session.version
    if live.session is not None and live.session.version > version:
        raise IncompleteHistory(f"its row has version {live.session.version}, its events end at {version}")
    if shadow.open and not shadow.session.is_deleted:
        raise IncompleteHistory(f"completion {min(shadow.open)} has not ended by the events, and no row of it is open")
    return shadow, list(differences(shadow, live.session, live.messages))


def _decoded(record: ArchivedRecord) -> Envelope:
    headers = [(name, text.encode()) for name, text in record.headers.items()]
    try:
        return decode(CHAT_EVENTS, headers, record.value)
    except DeadLetter as unreadable:
        raise IncompleteHistory(f"event {record.id} cannot be read: {unreadable}") from None


def _by_key(records: Sequence[ArchivedRecord]) -> Mapping[str, Sequence[ArchivedRecord]]:
    found: dict[str, list[ArchivedRecord]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found
