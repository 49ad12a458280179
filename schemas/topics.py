"""The topic registry: what is not registered here cannot be used (design §4). Partition counts never change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from schemas import chunks, commands, events
from schemas.records import Body
from schemas.upcasters import AnyUpcaster

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True)
class Topic:
    """One topic: its settings on the broker, what it carries, who writes and reads it.

    `records` may be written; what stands on it in an older version is read through `upcasters`.
    """

    name: str
    key: str
    partitions: int
    retention_ms: int
    records: tuple[type[Body], ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    cleanup: Literal["delete", "compact"] = "delete"
    segment_ms: int | None = None
    has_dead_letters: bool = True
    upcasters: tuple[AnyUpcaster, ...] = ()

    @property
    def dead_letter_topic(self) -> str:
        """Where a record goes that can never be processed."""
        return f"{self.name}.dlq"

    @cached_property
    def by_type(self) -> dict[str, type[Body]]:
        """The classes of bodies that may be written, by `ce_type`."""
        return {record.ce_type: record for record in self.records}

    @cached_property
    def kept(self) -> dict[str, type[Body]]:
        """The classes of bodies that may stand on it, by `ce_type`: older versions too."""
        return {step.old.ce_type: step.old for step in self.upcasters} | self.by_type

    @cached_property
    def _newer(self) -> dict[str, AnyUpcaster]:
        return {step.old.ce_type: step for step in self.upcasters}

    def upcast(self, body: Body) -> Body:
        """The body in the newest version of its record, as every consumer sees it."""
        while (step := self._newer.get(body.ce_type)) is not None:
            body = step.change(body)
        return body

    def read_as(self, record: type[Body]) -> frozenset[str]:
        """The `ce_type` of every version that consumers read as `record`: its own, and older ones."""
        kinds = {record.ce_type}
        for step in reversed(self.upcasters):
            if step.new.ce_type in kinds:
                kinds.add(step.old.ce_type)
        return frozenset(kinds)

    def settings(self) -> dict[str, str]:
        """The broker's topic configuration."""
        config = {"cleanup.policy": self.cleanup, "max.message.bytes": str(MAX_RECORD_BYTES), **BROKERS_CLOCK}
        if self.cleanup == "delete":
            config["retention.ms"] = str(self.retention_ms)
        if self.segment_ms is not None:
            config["segment.ms"] = str(self.segment_ms)
        return config


BROKERS_CLOCK = {"message.timestamp.type": "LogAppendTime"}
"""Records are stamped by the broker: readers look for times in the log, and a producer's clock may be wrong."""
MAX_RECORD_BYTES = 2 * 1024 * 1024
DEAD_LETTER_RETENTION_MS = 30 * _DAY_MS

CHAT_COMMANDS = Topic(
    name="chat.commands.v1",
    key="session id",
    partitions=12,
    retention_ms=7 * _DAY_MS,
    records=(
        commands.CreateSession,
        commands.RenameSession,
        commands.SetFavorite,
        commands.DeleteSession,
        commands.PostMessage,
        commands.EditMessage,
        commands.RegenerateMessage,
        commands.ResumeMessage,
        commands.CancelCompletion,
    ),
    producers=("edge",),
    consumers=("transcript",),
)
CHAT_EVENTS = Topic(
    name="chat.events.v1",
    key="session id",
    partitions=12,
    retention_ms=30 * _DAY_MS,
    records=(
        events.SessionCreated,
        events.SessionRenamed,
        events.FavoriteSet,
        events.SessionDeleted,
        events.MessagePosted,
        events.CompletionRequested,
        events.CancelRequested,
        events.CompletionCompleted,
        events.CompletionFailed,
        events.CompletionCancelled,
        events.CommandRejected,
    ),
    producers=("transcript", "completions", "relay"),
    consumers=("edge", "completions", "message_search"),
)
CHAT_CHUNKS = Topic(
    name="chat.chunks.v1",
    key="completion id",
    partitions=12,
    retention_ms=_HOUR_MS,
    segment_ms=5 * _MINUTE_MS,
    records=(chunks.AttemptOpened, chunks.CompletionChunk, chunks.AttemptFinished, chunks.StreamEnded),
    producers=("completions", "transcript", "relay"),
    consumers=("edge", "completions"),
    has_dead_letters=False,
)
KNOWLEDGE_COMMANDS = Topic(
    name="knowledge.commands.v1",
    key="document id",
    partitions=6,
    retention_ms=7 * _DAY_MS,
    records=(
        commands.AddDocument,
        commands.ReplaceDocument,
        commands.UpdateDocument,
        commands.RestoreVersion,
        commands.DeleteDocument,
    ),
    producers=("edge",),
    consumers=("documents",),
)
KNOWLEDGE_EVENTS = Topic(
    name="knowledge.events.v1",
    key="document id",
    partitions=6,
    retention_ms=30 * _DAY_MS,
    records=(
        events.DocumentUploaded,
        events.DocumentUpdated,
        events.RestoreRequested,
        events.DocumentParsing,
        events.DocumentParsed,
        events.PassagesEmbedded,
        events.DocumentIndexed,
        events.DocumentFailed,
        events.DocumentDeleted,
        events.CommandRejected,
    ),
    producers=("documents", "index", "relay"),
    consumers=("edge", "documents"),
)
KNOWLEDGE_INDEX = Topic(
    name="knowledge.index.v1",
    key="tenant id",
    partitions=6,
    retention_ms=7 * _DAY_MS,
    records=(commands.IndexBatch,),
    producers=("documents", "relay"),
    consumers=("index",),
)
IDENTITY_STATE = Topic(
    name="identity.state.v1",
    key="<kind>:<id>",
    partitions=1,
    retention_ms=-1,
    cleanup="compact",
    records=(events.ApiKeyState, events.UserState),
    producers=("edge", "relay"),
    consumers=("edge",),
)
USAGE_EVENTS = Topic(
    name="usage.events.v1",
    key="tenant id",
    partitions=6,
    retention_ms=30 * _DAY_MS,
    records=(events.UsageRecorded,),
    producers=("completions", "relay"),
    consumers=(),
)

TOPICS: tuple[Topic, ...] = (
    CHAT_COMMANDS,
    CHAT_EVENTS,
    CHAT_CHUNKS,
    KNOWLEDGE_COMMANDS,
    KNOWLEDGE_EVENTS,
    KNOWLEDGE_INDEX,
    IDENTITY_STATE,
    USAGE_EVENTS,
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
