"""Index: the only writer of the vector tables. One batch = one transaction = one commit a table."""

from __future__ import annotations

from consumers.index.writer import IndexWriter
from schemas.topics import KNOWLEDGE_EVENTS, KNOWLEDGE_INDEX
from storage.log.batch_runner import Subscription


def index(writer: IndexWriter) -> Subscription:
    """The subscription of group `index` to the batches of embedded passages."""
    return Subscription(KNOWLEDGE_INDEX, "index", writer.handle, rejects_to=KNOWLEDGE_EVENTS)
