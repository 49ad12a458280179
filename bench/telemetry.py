"""*telemetry*: what metrics and traces (one request in ten) cost, against the same without both.

Two stacks side by side, asked in turns: CPU of edge and worker for each post (*applied*) and each answer (*first
token*). CPU of this process for each message of a drained backlog (*persisted*). Spans go to a collector of its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import prometheus_client
import psutil

from bench.first_token import CONTENT as ANSWERED
from bench.measure import Row, alternate, at_most
from bench.persisted import CONTENT, Drain
from bench.servers import Servers
from bench.stack import Stack, dev_stack
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from telemetry.otlp import OtlpTracer
from telemetry.seconds import Series
from telemetry.tracing import flags_of_a_new_trace, trace_with
from tests.collector import collecting_process

RATIO, LIMIT = 0.1, 1.1
N_POSTS_S, N_BURSTS, AT_ONCE = 4.0, 8, 40
N_MESSAGES, N_SESSIONS = 20_000, 2_000
WITHOUT = {"PYTHONPATH": str(Path(__file__).with_name("without_metrics"))}


async def run(servers: Servers, *, n_rounds: int) -> list[Row]:
    """The rows of *telemetry*."""
    with collecting_process() as collector:
        return [*await _served(collector, n_rounds), await _persisted(servers, collector, n_rounds)]


async def _served(collector: str, n_rounds: int) -> list[Row]:
    told = {"RAGLINE_TELEMETRY__OTLP_ENDPOINT": collector, "RAGLINE_TELEMETRY__TRACE_RATIO": str(RATIO)}
    async with AsyncExitStack() as exits:
        without = await exits.enter_async_context(dev_stack(env=WITHOUT))
        with_ = await exits.enter_async_context(dev_stack(env=told))
        rows = []
        for name, measure in (("applied", _post_us), ("first token", _answer_us)):
            for stack in (without, with_):
                await measure(stack)
            sides = {"off": partial(measure, without), "on": partial(measure, with_)}
            rows.append(_row(f"{name}: CPU of edge and worker a request", *await _least(n_rounds, sides)))
        return rows


async def _least(n_rounds: int, sides: Mapping[str, Callable[[], Awaitable[float]]]) -> tuple[float, float]:
    """The least of each side: what others do on the machine only ever adds."""
    found: dict[str, list[float]] = {name: [] for name in sides}

    async def noted(name: str) -> float:
        found[name].append(await sides[name]())
        return found[name][-1]

    await alternate(n_rounds, {name: partial(noted, name) for name in sides})
    return min(found["off"]), min(found["on"])


def _row(measure: str, off: float, on: float) -> Row:
    return at_most("telemetry", measure, ours=on, baseline=off, factor=LIMIT, unit="µs")


def _cpu_s(stack: Stack) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in stack.pids("edge", "worker")]
    return float(sum(one.user + one.system for one in times))


async def _post_us(stack: Stack) -> float:
    began = _cpu_s(stack)
    asked = stack.client(
        what="posts", content=f"{CONTENT} [[n_tokens=1]]", model="deterministic", sessions=64, seconds=N_POSTS_S,
        connections=32,
    )  # fmt: skip
    told = await stack.children.answer("bench.load_client", asked)
    return (_cpu_s(stack) - began) / len(told["ms"]) * 1e6


async def _answer_us(stack: Stack) -> float:
    began = _cpu_s(stack)
    asked = stack.client(model="deterministic", what="first", content=ANSWERED, n=N_BURSTS, at_once=AT_ONCE)
    await stack.children.answer("bench.load_client", asked)
    return (_cpu_s(stack) - began) / (N_BURSTS * AT_ONCE) * 1e6


async def _persisted(servers: Servers, collector: str, n_rounds: int) -> Row:
    database = Database(await servers.fresh_database("telemetry"))
    producer = LogProducer(servers.kafka_bootstrap, client_id="bench")
    await producer.start()
    tracer = OtlpTracer(collector, service="bench", version="0", ratio=RATIO)
    drain = Drain(servers, database, producer, traceparent=_traceparent)

    async def us() -> float:
        return await drain.cpu_us(N_MESSAGES, N_SESSIONS)

    async def off() -> float:
        with _no_metrics():
            return await us()

    async def on() -> float:
        trace_with(tracer)
        try:
            return await us()
        finally:
            trace_with(None)

    try:
        await drain.per_second(2_000, 200)
        least = await _least(n_rounds, {"off": off, "on": on})
    finally:
        tracer.stop()
        await producer.stop()
        await database.close()
    return _row("persisted: CPU of the consumer a message", *least)


def _traceparent() -> str:
    """As an edge mints it."""
    bits = f"{random.getrandbits(192):048x}"
    return f"00-{bits[:32]}-{bits[32:]}-{flags_of_a_new_trace()}"


@contextmanager
def _no_metrics() -> Iterator[None]:
    with (
        mock.patch.object(prometheus_client.Counter, "inc", _nothing),
        mock.patch.object(prometheus_client.Gauge, "set", _nothing),
        mock.patch.object(Series, "observe", _nothing),
    ):
        yield


def _nothing(*_: object) -> None:
    """Does not count."""
