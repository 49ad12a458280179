"""A service of its own that follows the chats of every tenant. Nothing of Ragline is imported: the contract is enough.

    pip install "faststream[kafka]"
    KAFKA_BOOTSTRAP=localhost:9092 RAGLINE_URL=http://localhost:8000 python subscriber.py

It keeps what it reads in `subscriber.db`, and prints a line of JSON for every record that it had not read before.
"""

import asyncio
import json
import logging
import os
import sqlite3
import urllib.request
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

MESSAGE_POSTED = "ragline.chat.message_posted.v1"
COMPLETION_COMPLETED = "ragline.chat.completion_completed.v1"
READ = {MESSAGE_POSTED, COMPLETION_COMPLETED}


def topics_of(types: set[str]) -> list[str]:
    """The topics that carry these types, as the running Ragline says."""
    with urllib.request.urlopen(f"{os.environ['RAGLINE_URL']}/asyncapi", timeout=10) as answer:  # noqa: S310
        channels: dict[str, Any] = json.load(answer)["channels"]
    if unknown := types - {kind for channel in channels.values() for kind in channel["messages"]}:
        raise SystemExit(f"this Ragline has no {', '.join(sorted(unknown))}")
    return [name for name, channel in channels.items() if channel["x-public"] and types & channel["messages"].keys()]


database = sqlite3.connect(os.environ.get("SUBSCRIBER_DB", "subscriber.db"))
database.execute("CREATE TABLE IF NOT EXISTS read (ce_id TEXT PRIMARY KEY)")
database.execute("CREATE TABLE IF NOT EXISTS chats (id TEXT PRIMARY KEY, version INTEGER, last_text TEXT)")
logging.basicConfig(level=logging.WARNING)  # to the error output; FastStream's own logger writes to the other
broker = KafkaBroker(os.environ["KAFKA_BOOTSTRAP"], logger=logging.getLogger("subscriber"))
app = FastStream(broker)


@broker.subscriber(
    *topics_of(READ),
    group_id=os.environ.get("GROUP", "my-service"),
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,  # what fails is read again; the default would lose it
)
async def on_record(message: KafkaMessage) -> None:
    """Takes effect once, however often the record is delivered: its id and its effect are one transaction."""
    kind, id_ = message.headers.get("ce_type"), message.headers.get("ce_id")
    if kind not in READ:  # other types, and newer versions of these
        return
    body = json.loads(message.body)
    with database:
        if database.execute("INSERT OR IGNORE INTO read VALUES (?)", [id_]).rowcount == 0:
            return
        database.execute(
            "INSERT INTO chats VALUES (:session_id, :session_version, :content) ON CONFLICT (id) DO UPDATE"
            " SET version = excluded.version, last_text = excluded.last_text WHERE excluded.version > version",
            body,
        )
    print(json.dumps({"type": kind, "id": id_, "tenant": message.headers["ce_tenantid"], "body": body}), flush=True)


if __name__ == "__main__":
    asyncio.run(app.run())
