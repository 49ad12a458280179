"""*telemetry*: what metrics and traces (one request in ten) cost, against the same without both.

Two stacks side by side, asked in turns for the work of each line: CPU of edge and worker with all below them, a
message, a token, a passage. *persisted* is measured in this process, without a stack. Spans go to a collector of its
own. Of each side the least of its rounds: what others do on the machine only ever adds.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import prometheus_client

from bench.measure import Row, alternate, at_most
from bench.persisted import Drain
from bench.served import Served
from bench.servers import Servers
from bench.stack import dev_stack
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from telemetry.otlp import OtlpTracer
from telemetry.seconds import Series
from telemetry.tracing import flags_of_a_new_trace, trace_with
from tests.collector import collecting_process

RATIO, LIMIT = 0.1, 1.1
N_MESSAGES, N_SESSIONS = 20_000, 2_000
WITHOUT = {"PYTHONPATH": str(Path(__file__).with_name("without_metrics"))}


async def run(servers: Servers, *, n_rounds: int) -> list[Row]:
    """The rows of *telemetry*."""
    with collecting_process() as collector:
        return [*await _served(collector, n_rounds), await _persisted(servers, collector, n_rounds)]


async def _served(collector: str, n_rounds: int) -> list[Row]:
    told = {"RAGLINE_TELEMETRY__OTLP_ENDPOINT": collector, "RAGLINE_TELEMETRY__TRACE_RATIO": str(RATIO)}
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="ragline-bench-")))
        without, with_ = [
            await exits.enter_async_context(Served(await exits.enter_async_context(dev_stack(env=env)), folder))
            for env in (WITHOUT, told)
        ]
        works: dict[str, tuple[Callable[[Served], Awaitable[float]], str]] = {
            "applied": (Served.post_us, "message"),
            "first token": (Served.answer_us, "answer"),
            "relay": (Served.token_us, "token"),
            "ingest": (Served.passage_us, "passage"),
            "search": (Served.search_us, "search"),
            "accept": (Served.accept_us, "message"),  # comes last: it leaves a backlog
        }
        rows = []
        for name, (measure, unit) in works.items():
            for side in (without, with_):
                await measure(side)
            sides = {"off": partial(measure, without), "on": partial(measure, with_)}
            rows.append(_row(f"{name}: CPU of edge and worker a {unit}", *await _least(n_rounds, sides)))
        return rows


async def _least(n_rounds: int, sides: Mapping[str, Callable[[], Awaitable[float]]]) -> tuple[float, float]:
    found = await alternate(n_rounds, sides)
    return min(found.samples["off"]), min(found.samples["on"])


def _row(measure: str, off: float, on: float) -> Row:
    return at_most("telemetry", measure, ours=on, baseline=off, factor=LIMIT, unit="µs")


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
