"""A completion as server-sent events: of one that is known, and of one that is asked for with the same request."""

from __future__ import annotations

import asyncio
from uuid import UUID

from producers.edge import frames
from producers.edge.asgi import RawHeaders, Receive, Send
from producers.edge.caller import Caller
from producers.edge.channel import Channel, Cursor
from producers.edge.effects import Effect, Effects
from producers.edge.frames import Position, parse_last_event_id
from producers.edge.requests import path_id
from producers.edge.sse import EdgeStopping, EventStream, OpenStreams
from producers.edge.stream_hub import StreamHub
from schemas.commands import PostMessage
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.events import CompletionRequested, MessagePosted
from schemas.topics import CHAT_COMMANDS


class CompletionStreams:
    """Serves channels to readers: what a reader has is never sent again, what it lacks always is."""

    def __init__(self, hub: StreamHub, effects: Effects, streams: OpenStreams) -> None:
        self._hub = hub
        self._effects = effects
        self._streams = streams

    async def stream(self, receive: Receive, send: Send, caller: Caller, completion_id: str) -> None:
        """Read a completion from `Last-Event-ID` on. Raises: Reject; Unavailable."""
        id_ = path_id(completion_id, "completion")
        last = parse_last_event_id(caller.headers.get(b"last-event-id"))
        with self._streams.seat():
            async with self._hub.open(caller.principal, id_) as channel:
                cursor = await self._cursor(channel, last)
                async with self._streams.answer(receive, send, headers=[]) as stream:
                    await _serve(stream, channel, cursor)

    async def stream_posted(
        self, receive: Receive, send: Send, caller: Caller, command: Envelope, body: PostMessage, *, wait_s: float
    ) -> None:
        """Publish a message and stream its answer. Raises: Reject if it is refused within the wait; Unavailable."""
        headers: RawHeaders = [(b"x-completion-id", str(body.completion_id).encode())]
        with self._streams.seat():
            with self._effects.listening(command) as effect:
                await self._effects.publish(CHAT_COMMANDS, command)
                found = await effect.of(MessagePosted, CompletionRequested, wait_s=wait_s)
                if not found:
                    async with self._streams.answer(receive, send, headers=headers) as stream:
                        await self._serve_late(stream, caller, effect, body)
                    return
            async with (
                self._hub.open(caller.principal, body.completion_id) as channel,
                self._streams.answer(receive, send, headers=headers) as stream,
            ):
                await _serve(stream, channel, Cursor(channel, None), user_message_id=body.message_id)

    async def _serve_late(self, stream: EventStream, caller: Caller, effect: Effect, body: PostMessage) -> None:
        """The command is safe, its effect not known yet: the stream stays open until it is, and goes on."""
        await stream.write(frames.started(body.completion_id, body.ai_message_id, "accepted"))
        waiting = asyncio.create_task(effect.of(MessagePosted, CompletionRequested, wait_s=None))
        waiting.add_done_callback(lambda _: stream.wake())
        try:
            while not waiting.done():
                await stream.wait()
            if not waiting.result():
                raise EdgeStopping
            async with self._hub.open(caller.principal, body.completion_id) as channel:
                await _serve(stream, channel, Cursor(channel, None), user_message_id=body.message_id)
        except Reject as reject:
            await stream.write(frames.failure(reject.code, reject.detail))
        finally:
            waiting.cancel()

    async def _cursor(self, channel: Channel, last: Position | None) -> Cursor:
        """Raises: Reject 400 for a reader that claims more than the log has."""
        cursor = Cursor(channel, last)
        if cursor.is_ahead and channel.closing is None:
            await self._hub.let_pass(channel)
        if cursor.is_ahead and not (channel.has_gap or channel.is_short):
            raise frames.invalid_last_event_id()
        return cursor


async def _serve(stream: EventStream, channel: Channel, cursor: Cursor, *, user_message_id: UUID | None = None) -> None:
    """Writes `started`, then all that comes, to the terminal event or an error."""
    status = "pending" if channel.state.attempt == 0 else "in_progress"
    more = {"user_message_id": str(user_message_id)} if user_message_id is not None else {}
    head = frames.started(channel.completion_id, channel.owner.message_id, status, **more)
    channel.readers.add(stream.wake)
    try:
        data = head + cursor.take()
        while True:
            if data:
                await stream.write(data)
            if cursor.is_done:
                return
            if cursor.has_more:
                stream.wake()
            await stream.wait()
            data = cursor.take()
    finally:
        channel.readers.discard(stream.wake)
