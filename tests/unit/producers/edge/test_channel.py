"""Readers of a channel: whatever the log, whenever they join, cut and resume, they hold exactly its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from producers.edge.channel import EMPTY_BASE, Base, Channel, Cursor, Owner
from producers.edge.frames import Position, parse_last_event_id
from schemas.chunks import AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded
from schemas.stream_fold import EMPTY, FoldState, accept

ID, MESSAGE = UUID(int=1), UUID(int=2)
OWNER = Owner(UUID(int=3), UUID(int=4), UUID(int=5), MESSAGE)


@dataclass
class Client:
    """What a client makes of the bytes."""

    text: str = ""
    last_id: str | None = None
    ended: str | None = None
    names: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> None:
        for block in data.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            self._event(fields["event"], orjson.loads(fields["data"]), fields.get("id"))

    def _event(self, name: str, data: Any, id_: str | None) -> None:
        self.names.append(name)
        if id_ is not None:
            assert self.last_id is None or id_ > self.last_id, "ids are unique and increase"
            self.last_id = id_
        match name:
            case "reset":
                self.text = ""
            case "delta":
                assert (data["start"], data["end"]) == (len(self.text), len(self.text) + len(data["text"]))
                self.text += data["text"]
            case "completed" | "failed" | "cancelled":
                self.ended = name

    @property
    def last(self) -> Position | None:
        return parse_last_event_id(self.last_id.encode() if self.last_id else None)


@dataclass
class Log:
    """Writes records as workers do, with zombies whose records do not count."""

    records: list[ChunkRecord] = field(default_factory=list)
    state: FoldState = EMPTY
    text: str = ""

    def put(self, record: ChunkRecord) -> None:
        after = accept(self.state, record)
        if after is not self.state and isinstance(record, CompletionChunk):
            self.text = record.text if after.epoch != self.state.epoch else self.text + record.text
        self.state = after
        self.records.append(record)

    def chunk(self, text: str, *, attempt: int | None = None, restart: bool = False, n_missing: int = 0) -> None:
        state = self.state
        number = state.attempt if attempt is None else attempt
        epoch, start = (max(number, state.epoch + 1), 0) if restart else (state.epoch, state.end)
        self.put(
            CompletionChunk(
                completion_id=ID,
                attempt=number,
                epoch=epoch,
                seq=state.seq + 1,
                start=start,
                end=start + len(text) + n_missing,
                text=text,
            )
        )

    def end(self, status: Any = "complete") -> None:
        state = self.state
        self.put(StreamEnded(completion_id=ID, message_id=MESSAGE, epoch=state.epoch, end=state.end, status=status))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)
steps = st.one_of(
    st.tuples(st.just("chunk"), texts),
    st.tuples(st.just("restart"), texts),
    st.tuples(st.just("zombie"), texts),
    st.tuples(st.just("malformed"), texts),
    st.tuples(st.just("open"), st.just("")),
)


def written(plan: list[tuple[str, str]]) -> Log:
    log = Log()
    log.put(AttemptOpened(completion_id=ID, attempt=1))
    for kind, text in plan:
        if kind == "open":
            log.put(AttemptOpened(completion_id=ID, attempt=log.state.attempt + 1))
        elif kind == "zombie":
            log.chunk(text, attempt=log.state.attempt - 1)
        elif kind == "malformed":
            log.chunk(text, n_missing=3)
        else:
            log.chunk(text, restart=kind == "restart")
    log.end()
    return log


def channel_at(log: Log, n_folded: int, *, base_at: int = 0) -> Channel:
    """An edge that began with the checkpoint of `base_at` records and has read up to `n_folded`."""
    before = Log()
    for record in log.records[:base_at]:
        before.put(record)
    channel = Channel(ID, OWNER, Base(before.state, before.text) if base_at else EMPTY_BASE)
    for record in log.records[base_at:n_folded]:
        channel.read(record)
    return channel


@given(plan=st.lists(steps, max_size=12), data=st.data())
def test_a_client_that_hops_between_edges_holds_exactly_the_text(plan: list[tuple[str, str]], data: Any) -> None:
    log = written(plan)
    n = len(log.records)
    client = Client()
    at_least = 0
    for _ in range(data.draw(st.integers(0, 4))):
        n_folded = data.draw(st.integers(at_least, n - 1))
        channel = channel_at(log, n_folded, base_at=data.draw(st.integers(0, n_folded)))
        cursor = Cursor(channel, client.last)
        assert not cursor.is_ahead
        client.feed(cursor.take())
        for record in log.records[n_folded : data.draw(st.integers(n_folded, n - 1))]:
            channel.read(record)
            n_folded += 1
            if data.draw(st.booleans()):
                client.feed(cursor.take())
        at_least = n_folded
    channel = channel_at(log, n, base_at=data.draw(st.integers(0, n - 1)))
    cursor = Cursor(channel, client.last)
    client.feed(cursor.take())
    assert cursor.is_done
    assert (client.text, client.ended) == (log.text, "completed")


@given(plan=st.lists(steps, max_size=12), data=st.data())
def test_a_client_may_resume_at_any_code_point(plan: list[tuple[str, str]], data: Any) -> None:
    log = written(plan)
    at = data.draw(st.integers(0, log.state.end))
    cursor = Cursor(channel_at(log, len(log.records)), Position(log.state.epoch, at))
    client = Client(text=log.text[:at])
    client.feed(cursor.take())
    assert (client.text, client.ended) == (log.text, "completed")
    assert "reset" not in client.names


def test_a_client_of_an_older_epoch_is_reset_first() -> None:
    log = written([("chunk", "old"), ("restart", "new")])
    client = Client(text="ol", last_id="000000.0000000002.1")
    client.feed(Cursor(channel_at(log, len(log.records)), client.last).take())
    assert client.names == ["reset", "delta", "completed"]
    assert client.text == "new"


def test_a_live_reader_is_reset_even_if_it_was_shown_nothing_of_the_new_epoch() -> None:
    log = Log()
    log.put(AttemptOpened(completion_id=ID, attempt=1))
    log.chunk("lost")
    channel = channel_at(log, 2)
    client, cursor = Client(), Cursor(channel, None)
    client.feed(cursor.take())
    log.chunk("", restart=True)
    channel.read(log.records[-1])
    client.feed(cursor.take())
    assert client.names == ["delta", "reset"]
    assert client.text == ""


def test_a_reader_ahead_of_its_edge_gets_nothing_twice_when_the_edge_catches_up() -> None:
    log = written([("chunk", "abc"), ("chunk", "def"), ("chunk", "ghi")])
    channel = channel_at(log, 2)
    cursor, client = Cursor(channel, Position(0, 5)), Client(text="abcde")
    assert cursor.is_ahead
    assert cursor.take() == b""
    for record in log.records[2:]:
        channel.read(record)
        client.feed(cursor.take())
    assert client.text == "abcdefghi"


def test_a_long_text_is_taken_in_pieces_each_character_once() -> None:
    text = "ä🦊" * 100_000
    state = FoldState(attempt=1, epoch=0, end=len(text), seq=1, chunk_ends=(len(text),))
    channel = Channel(ID, OWNER, Base(state, text))
    cursor, client = Cursor(channel, Position(0, 5)), Client(text=text[:5])
    sizes = [0]
    channel.read(StreamEnded(completion_id=ID, message_id=MESSAGE, epoch=0, end=len(text), status="complete"))
    while not cursor.is_done:
        data = cursor.take()
        client.feed(data)
        sizes.append(len(data))
    assert (client.text, client.ended) == (text, "completed")
    assert 64 * 1024 < max(sizes) < 128 * 1024
    assert not cursor.has_more


def test_a_stream_that_ends_elsewhere_is_short_and_never_closes_by_itself() -> None:
    log = written([("chunk", "abc")])
    channel = Channel(ID, OWNER, EMPTY_BASE)
    for record in (log.records[0], log.records[2]):
        channel.read(record)
    assert channel.is_short
    assert channel.closing is None
    whole = channel_at(log, 3)
    channel.adopt(whole)
    client = Client()
    client.feed(Cursor(channel, None).take())
    assert (client.text, client.ended) == ("abc", "completed")


def test_missing_records_are_noticed() -> None:
    log = written([("chunk", "abc"), ("chunk", "def"), ("open", ""), ("chunk", "ghi")])
    without_a_chunk = Channel(ID, OWNER, EMPTY_BASE)
    for record in (log.records[0], log.records[2]):
        without_a_chunk.read(record)
    assert without_a_chunk.has_gap
    without_the_fence = Channel(ID, OWNER, EMPTY_BASE)
    for record in (*log.records[:3], log.records[4]):
        without_the_fence.read(record)
    assert without_the_fence.has_gap


def test_what_does_not_count_is_no_gap() -> None:
    log = written([("chunk", "abc"), ("open", ""), ("zombie", "x"), ("malformed", "y"), ("chunk", "def")])
    assert not channel_at(log, len(log.records)).has_gap


def test_a_channel_never_goes_back() -> None:
    log = written([("chunk", "abc"), ("chunk", "def")])
    channel, older = channel_at(log, 3), channel_at(log, 2)
    channel.adopt(older)
    assert channel.position == Position(0, 6)
