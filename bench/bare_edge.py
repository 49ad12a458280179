"""The peer of *accept*: `python -m bench.bare_edge '{"bootstrap": …, "key": …, "topic": …}'`.

The least that a Python program can do to accept a message: one ASGI function under uvicorn (uvloop, httptools, no
access log: uvicorn's best), the key looked up by its SHA-256 in a dictionary, the body parsed, ids minted, a record
with the same headers and fields published with the same producer settings, its ack awaited, 202 with the same fields.
No routes, no validation of fields, no traces, no idempotency, no deadline, no waiters.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import uuid_utils
import uvicorn
import uvloop
from aiokafka import AIOKafkaProducer

from bench.children import asked

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class BareEdge:
    """One ASGI application."""

    def __init__(self, producer: AIOKafkaProducer, key: str, topic: str) -> None:
        tenant, user = str(uuid_utils.uuid7()), str(uuid_utils.uuid7())
        self._producer = producer
        self._topic = topic
        self._tenants = {hashlib.sha256(key.encode()).hexdigest(): (tenant, user)}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI 3."""
        headers = dict(scope["headers"])
        token = headers[b"authorization"].removeprefix(b"Bearer ")
        tenant, user = self._tenants[hashlib.sha256(token).hexdigest()]
        sent = orjson.loads((await receive())["body"])
        session_id = scope["path"].split("/")[4]
        command_id, message_id, ai_message_id, completion_id = (str(uuid_utils.uuid7()) for _ in range(4))
        value = orjson.dumps(
            {
                "session_id": session_id,
                "message_id": message_id,
                "ai_message_id": ai_message_id,
                "completion_id": completion_id,
                "content": sent["content"],
                "parent_id": None,
                "generation": _GENERATION,
                "if_busy": "queue",
            }
        )
        record_headers = _headers(command_id, session_id, tenant, user)
        await (await self._producer.send(self._topic, value, key=session_id.encode(), headers=record_headers))
        answer = orjson.dumps(_answer(session_id, message_id, ai_message_id, completion_id, sent["content"]))
        await send(
            {
                "type": "http.response.start",
                "status": 202,
                "headers": [*_JSON, (b"content-length", b"%d" % len(answer))],
            }
        )
        await send({"type": "http.response.body", "body": answer})


_JSON = [(b"content-type", b"application/json")]
_GENERATION = {"model": None, "profile_id": None, "document_ids": None, "temperature": None, "max_tokens": None}


def _headers(command_id: str, session_id: str, tenant: str, user: str) -> list[tuple[str, bytes]]:
    id_ = command_id.encode()
    return [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_id", id_),
        ("ce_type", b"ragline.chat.post_message.v1"),
        ("ce_source", b"edge"),
        ("ce_subject", session_id.encode()),
        ("ce_time", datetime.now(UTC).isoformat().encode()),
        ("ce_tenantid", tenant.encode()),
        ("ce_userid", user.encode()),
        ("ce_correlationid", id_),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]


def _answer(session_id: str, message_id: str, ai_message_id: str, completion_id: str, content: str) -> dict[str, Any]:
    return {
        "message": {
            "id": message_id,
            "session_id": session_id,
            "sender": "user",
            "status": "accepted",
            "content": content,
            "completion_id": completion_id,
            "citations": [],
            "created_at": time.time(),
        },
        "completion": {
            "id": completion_id,
            "message_id": ai_message_id,
            "status": "accepted",
            "stream_url": f"/api/v1/completions/{completion_id}/stream",
        },
    }


async def main() -> None:
    """Tells its port and serves until it is killed."""
    question = asked()
    producer = AIOKafkaProducer(
        bootstrap_servers=question["bootstrap"],
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
    )
    await producer.start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = BareEdge(producer, question["key"], question["topic"])
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, backlog=4096, timeout_keep_alive=75, server_header=False
    )
    serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[listener]))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await serving


if __name__ == "__main__":
    uvloop.run(main())
