"""One run: start the program, let people talk while it is struck, wait for quiet, check everything."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiokafka.errors import KafkaError

from tests.chaos import checks, evidence, plan
from tests.chaos.client import GaveUpError, Reach, exchange, read_stream
from tests.chaos.evidence import Evidence
from tests.chaos.ground import stack_with_providers
from tests.chaos.memory import Memory
from tests.chaos.playing import Played, PlayedConversation, Slot
from tests.chaos.reading import History, Reading
from tests.chaos.report import Report, count_blows, count_gaps, tracebacks
from tests.chaos.striker import Striker
from tests.stack import DevStack

QUIET_WITHIN_S = 60.0
SHOWN_HISTORIES = 5
_LATE_READERS = 8
_END_OF_STRIKES_S = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. `gap_s` is the least and the greatest time between two strikes; `most_words_paid` are those of
    the model that can continue, for each word needed.
    """

    seed: int
    minutes: float
    streams: int
    gap_s: tuple[float, float] = (2.0, 7.0)
    most_words_paid: float = 1.1


def run(options: Options, folder: Path) -> Report:
    """Runs in `folder`, which keeps the program's data and logs."""
    began_s = time.monotonic()
    report = Report(options.seed, options.minutes, options.streams)
    try:
        with ExitStack() as exits:
            stack, providers = exits.enter_context(stack_with_providers(folder))
            asyncio.run(Run(options, stack, providers, report).play())
    except AssertionError as error:
        report.faults.append(f"the program did not start or stop in order: {error}")
    report.tracebacks = tracebacks(folder)
    report.took_s = time.monotonic() - began_s
    return report


class Run:
    """The time between start and stop."""

    def __init__(self, options: Options, stack: DevStack, providers: Mapping[str, str], report: Report) -> None:
        self._options = options
        self._stack = stack
        self._providers = providers
        self._report = report
        self._start_s = time.monotonic()
        ready = stack.report()
        self._bootstrap, self._dsn = str(ready["kafka_bootstrap"]), str(ready["postgres_dsn"])
        self._urls = [str(p["url"]) for p in ready["processes"] if p["role"] == "edge"]
        self._striker = Striker(stack, self._now_s)
        self._memory = Memory(stack)
        self._played: list[PlayedConversation] = []

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    async def play(self) -> None:
        """Fills the report."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(headers=self._stack.headers, connector=connector) as session:
            reach = Reach(session, self._urls, self._now_s)
            sampling = asyncio.create_task(self._memory.sample_forever())
            await self._talk_and_strike(reach)
            is_quiet = await self._until_quiet()
            sampling.cancel()
            self._count(reach, await self._words_paid(session))
            if is_quiet:
                await self._check(reach)

    async def _talk_and_strike(self, reach: Reach) -> None:
        options = self._options
        until_s = self._now_s() + options.minutes * 60
        blows = plan.strikes(options.seed, until_s - _END_OF_STRIKES_S, gap_s=options.gap_s)
        striking = asyncio.create_task(self._striker.run(blows))
        slots = [Slot(reach, options.seed, number, self._played) for number in range(options.streams)]
        try:
            await asyncio.gather(*(slot.talk(until_s) for slot in slots))
            await striking
        finally:
            striking.cancel()
            await asyncio.gather(striking, return_exceptions=True)

    async def _until_quiet(self) -> bool:
        """Nothing open, nothing unpublished, no lag; a fault if that does not come."""
        since_s, left = self._now_s(), dict[str, int]()
        while self._now_s() - since_s < QUIET_WITHIN_S:
            try:
                left = await evidence.open_work(self._dsn) | await evidence.lag(self._bootstrap)
                if not any(left.values()):
                    self._report.quiet_after_s = self._now_s() - since_s
                    return True
            except (OSError, asyncpg.PostgresError, KafkaError, TimeoutError) as error:
                left = {repr(error): 1}
            await asyncio.sleep(0.25)
        self._report.faults.append(f"not quiet after {QUIET_WITHIN_S} s: { {k: n for k, n in left.items() if n} }")
        self._report.histories += [str(blow) for blow in self._striker.blows]
        self._show([played for played in self._turns() if not played.reading.terminal])
        return False

    def _turns(self) -> list[Played]:
        return [turn for conversation in self._played for turn in conversation.turns]

    def _count(self, reach: Reach, words_paid: Mapping[str, int]) -> None:
        report, turns = self._report, self._turns()
        count_blows(report, self._striker.blows)
        count_gaps(report, turns, self._striker.blows)
        report.n_missed_strikes = self._striker.n_missed
        report.n_streams = dict(Counter(f"{turn.turn.model} {turn.turn.end}" for turn in turns))
        report.n_connections = sum(turn.reading.n_connections for turn in turns)
        report.n_resets = sum(turn.reading.n_resets for turn in turns)
        report.answers = dict(reach.statuses)
        report.memory = self._memory.by_role()
        report.faults += self._memory.faults()
        report.words_paid = dict(words_paid)
        for model in (plan.GOES_ON, plan.BEGINS_ANEW):
            report.words_needed[model] = sum(t.turn.n_tokens for t in turns if t.turn.model == model and t.message_id)
        if report.ratio(plan.GOES_ON) > self._options.most_words_paid:
            report.faults.append(f"{report.ratio(plan.GOES_ON):.3f} words paid for each word needed, with prefill")

    async def _words_paid(self, session: aiohttp.ClientSession) -> dict[str, int]:
        paid = {}
        for model, url in self._providers.items():
            async with session.get(f"{url.removesuffix('/v1')}/stats") as response:
                paid[model] = int((await response.json())["tokens_sent"])
        return paid

    async def _check(self, reach: Reach) -> None:
        found = await evidence.gather(self._bootstrap, self._dsn)
        self._report.n_attempts = sum(row["attempt"] for row in found.completions.values())
        self._report.faults += checks.whole_faults(self._played, found)
        limit = asyncio.Semaphore(_LATE_READERS)
        checked = await asyncio.gather(*(self._check_one(reach, c, found, limit) for c in self._played))
        faulty = [played for some in checked for played in some]
        for played in faulty[:SHOWN_HISTORIES]:
            self._show([played], row=found.completions.get(played.completion_id))
            self._report.histories += await evidence.told_of(self._bootstrap, played.completion_id)

    async def _check_one(
        self, reach: Reach, conversation: PlayedConversation, found: Evidence, limit: asyncio.Semaphore
    ) -> list[Played]:
        """The turns that broke a promise; what they broke is in the report."""
        faulty = []
        async with limit:
            listed, faults = await self._listed(reach, conversation)
            by_completion = {m["completion_id"]: m for m in listed if m["sender"] == "ai"}
            for n, played in enumerate(conversation.turns):
                late = await _late_reader(reach, played) if not conversation.is_deleted and played.message_id else None
                ai = by_completion.get(played.completion_id)
                faults += (broken := checks.stream_faults(played, found, ai, late))
                if broken or (faults and n == 0):
                    faulty.append(played)
        self._report.faults += [f"seed {self._options.seed}, session {conversation.session_id}: {f}" for f in faults]
        return faulty

    async def _listed(
        self, reach: Reach, conversation: PlayedConversation
    ) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
        if not conversation.session_id:
            return [], []
        path = f"/api/v1/sessions/{conversation.session_id}/messages?limit=200"
        expected = {404} if conversation.is_deleted else {200}
        try:
            _, page = await exchange(reach, random.Random(0), History(), "GET", path, expected=expected)
        except GaveUpError as error:
            return [], [str(error)]
        if conversation.is_deleted:
            return [], []
        return page["items"], checks.list_faults(conversation, page["items"])

    def _show(self, turns: Sequence[Played], row: Mapping[str, Any] | None = None) -> None:
        """The whole history of these streams, with the strikes that fell meanwhile."""
        for played in turns[:SHOWN_HISTORIES]:
            blows = [b for b in self._striker.blows if played.began_s - 10 <= b.at_s <= (played.ended_s or 1e9)]
            lines = sorted([*played.reading.history.text(), *map(str, blows)], key=lambda line: float(line[:8]))
            shown = {k: v for k, v in (row or {}).items() if k not in {"checkpoint_text", "chunk_ends", "context"}}
            head = f"--- seed {self._options.seed} session {played.session_id} completion {played.completion_id}"
            self._report.histories += [head, f"    {played.turn}", *lines, f"    row {shown}"]


async def _late_reader(reach: Reach, played: Played) -> Reading:
    """Somebody who reads the whole stream when all is over."""
    late = Reading()
    try:
        await read_stream(reach, random.Random(f"{played.turn.seed}/late"), late, _stream(played), cuts=False)
    except GaveUpError as error:
        late.faults.append(str(error))
    return late


def _stream(played: Played) -> str:
    return f"/api/v1/completions/{played.completion_id}/stream"
