"""Topics that no group consumes: their readers pass over what they cannot read, so somebody must keep it."""

from __future__ import annotations

from schemas.topics import IDENTITY_STATE, KNOWLEDGE_EVENTS, USAGE_EVENTS, Topic
from storage.log.batch_runner import Subscription

INSPECTED = (KNOWLEDGE_EVENTS, IDENTITY_STATE, USAGE_EVENTS)
"""Not the chunks: what is malformed there counts for no reader, and is gone within the hour (decision 0009)."""

_NEVER_STOPS = 1.0


def inspector(topic: Topic) -> str:
    """The group that inspects a topic."""
    return f"inspector-{topic.name}"


def inspections() -> list[Subscription]:
    """A group for each topic, which only looks. Junk on an event topic must not stop the relay's sweep."""
    return [
        Subscription(topic, inspector(topic), None, rejects_to=topic, dead_share=_NEVER_STOPS, may_wait=True)
        for topic in INSPECTED
    ]
