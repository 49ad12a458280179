"""*memory*: what an idle event stream and a session take of a process, in resident bytes.

An idle stream is one of the tenant's feed with nothing to tell, against a stream of a bare ASGI function under the same
server. A session is made and asked one question, which is answered; the growth of edge and worker together after it.
Both are slopes: some come first, so that what a process allocates once does not count. Measured once: memory that was
taken is not given back, so a second round would find it there. A process grows by about a MiB at once: 2 KiB a session.
"""

from __future__ import annotations

from bench.measure import Row, number, rss_bytes
from bench.stack import Stack

WARM_STREAMS, STREAMS = 300, 1_000
WARM_SESSIONS, SESSIONS = 200, 500
STREAM_KIB, SESSION_KIB = 30.0, 4.0
ROLES = ("edge", "worker")


async def run(stack: Stack, *, n_rounds: int) -> list[Row]:
    """The rows of *memory*."""
    bare = stack.children.start("bench.bare_streams")
    port = (await stack.children.told(bare))["port"]
    theirs = await _stream_kib(stack, host="127.0.0.1", port=port, pids=[bare.pid])
    bare.end_now()
    ours = await _stream_kib(stack, pids=stack.pids("edge"))
    await _converse(stack, WARM_SESSIONS)
    before = {role: rss_bytes(*stack.pids(role)) for role in ROLES}
    await _converse(stack, SESSIONS)
    grown = {role: (rss_bytes(*stack.pids(role)) - before[role]) / SESSIONS / 1024 for role in ROLES}
    shares = ", ".join(f"{role} {number(kib)} KiB" for role, kib in grown.items())
    return [
        _row("an idle stream, edge", ours, STREAM_KIB, f"{number(theirs)} KiB", f"{STREAMS:,} streams of the feed"),
        _row("a session, answered once", sum(grown.values()), SESSION_KIB, "–", f"{shares}; {SESSIONS:,} sessions"),
    ]


async def _stream_kib(stack: Stack, **more: object) -> float:
    question = stack.client(what="idle", path="/api/v1/events", warm=WARM_STREAMS, streams=STREAMS)
    told = await stack.children.answer("bench.load_client", {**question, **more}, timeout_s=300)
    return float(told["bytes"]) / 1024


async def _converse(stack: Stack, n_sessions: int) -> None:
    question = stack.client(
        what="converse", sessions=n_sessions, connections=8, content="How? [[n_tokens=8]]", model="deterministic"
    )
    told = await stack.children.answer("bench.load_client", question, timeout_s=300)
    if set(told["ends"]) != {"event: completed"}:
        raise RuntimeError(f"memory: streams ended with {told['ends']}")


def _row(measure: str, ours: float, limit: float, baseline: str, note: str) -> Row:
    kept = ours <= limit
    return Row(
        "memory", measure, f"≤ {number(limit)} KiB", baseline, f"{number(ours)} KiB", number(ours / limit), kept, note
    )
