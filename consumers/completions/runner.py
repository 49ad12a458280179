"""The completions of one worker: slots, claims, leases, checkpoints, hand-over (design §6, Wake-up)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from consumers.completions import store
from consumers.completions.attempt import Attempt, Tools
from consumers.completions.claims import claim, expire_leases
from consumers.completions.wakeup import wakeup_tail
from consumers.lease_trust import LeaseTrust
from consumers.tenant_limit import TenantLimit
from schemas.errors import Retry, Stop
from telemetry.metrics import LLM_RUNNING

logger = logging.getLogger(__name__)

CLAIM_AT_ONCE = 50
SWEEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How many answers at once, here and of one tenant everywhere; how long a lease lives, how often it is renewed."""

    slots: int
    running: TenantLimit
    lease_s: float
    checkpoint_s: float


class CompletionRunner:
    """Claims what is ready while slots are free; every claimed job is an `Attempt` in a task of its own."""

    def __init__(self, tools: Tools, pace: Pace, *, owner: str, on_fail: Callable[[BaseException], None]) -> None:
        self._tools = tools
        self._pace = pace
        self._owner = owner
        self._on_fail = on_fail
        self._trust: LeaseTrust
        self._running: dict[UUID, tuple[Attempt, asyncio.Task[None]]] = {}
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._tail = wakeup_tail(
            tools.bootstrap, client_id=f"ragline-{owner}-wakeup", on_requested=self._ready.set, on_cancel=self._cancel
        )

    async def start(self) -> None:
        """Begins to claim. Raises: Retry if Kafka or PostgreSQL is away."""
        await expire_leases(self._tools.database, owner=self._owner)
        await self._tail.start()
        away_s = max(self._pace.lease_s - self._pace.checkpoint_s, 2 * SWEEP_S)
        self._trust = LeaseTrust(away_s=away_s, lease_s=self._pace.lease_s, now_s=time.monotonic())
        loops = (("claims", self._claim_forever()), ("checkpoints", self._checkpoint_forever()))
        self._tasks = [asyncio.create_task(loop, name=f"completions {name}") for name, loop in loops]
        for task in (*self._tasks, self._tail.task):
            task.add_done_callback(self._ended)

    async def stop(self, *, timeout_s: float = 6.0) -> None:
        """Claims nothing more and hands over what is running: others go on from the last acked chunk."""
        claims, *others = self._tasks or (None,)
        if claims is not None:
            claims.cancel()
            await asyncio.gather(claims, return_exceptions=True)
        running = list(self._running.values())
        for attempt, _ in running:
            attempt.interrupt("shutdown")
        if running:
            await asyncio.wait([task for _, task in running], timeout=timeout_s)
        for task in (*others, *(task for _, task in self._running.values())):
            if task is not None:
                task.cancel()
        await self._tail.stop()

    @property
    def n_running(self) -> int:
        """Answers that this worker writes now."""
        return len(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fail(error)

    def _cancel(self, completion_id: UUID) -> None:
        if completion_id in self._running:
            self._running[completion_id][0].interrupt("cancelled")

    async def _claim_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._ready.wait()
            except TimeoutError:
                pass  # the sweep: leases expire and pauses end without a hint
            self._ready.clear()
            free = self._pace.slots - len(self._running)
            if free > 0:
                await self._claim(min(free, CLAIM_AT_ONCE))

    async def _claim(self, limit: int) -> None:
        try:
            jobs = await claim(
                self._tools.database,
                owner=self._owner,
                lease_s=self._pace.lease_s,
                limit=limit,
                running=self._pace.running,
                may_take_over=self._leases_are_trusted,
            )
        except Retry as retry:
            logger.warning("completions: no claim: %s", retry)
            return
        for job in jobs:
            if job.id in self._running:
                self._running[job.id][0].interrupt("lost")
            attempt = Attempt(job, self._tools)
            task = asyncio.create_task(self._run(attempt), name=f"completion {job.id} attempt {job.attempt}")
            self._running[job.id] = (attempt, task)
            LLM_RUNNING.set(len(self._running))
        if len(jobs) == limit:
            self._ready.set()

    def _leases_are_trusted(self) -> bool:
        return self._trust.answered(time.monotonic())

    async def _run(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        except Stop as stop:
            self._on_fail(stop)
        except Exception:
            logger.exception("completion %s attempt %d ended with a bug", attempt.job.id, attempt.job.attempt)
        finally:
            if self._running.get(attempt.job.id, (None,))[0] is attempt:
                del self._running[attempt.job.id]
                LLM_RUNNING.set(len(self._running))
            self._ready.set()

    async def _checkpoint_forever(self) -> None:
        while True:
            await asyncio.sleep(self._pace.checkpoint_s)
            attempts = [attempt for attempt, _ in self._running.values()]
            if not attempts:
                continue
            points = [attempt.checkpoint() for attempt in attempts]
            try:
                statuses = await store.checkpoint(self._tools.database, points, lease_s=self._pace.lease_s)
            except Retry as retry:
                logger.warning("completions: no checkpoint: %s", retry)
                continue
            self._leases_are_trusted()
            for attempt, point in zip(attempts, points, strict=True):
                status = statuses.get(attempt.job.id)
                if status is None:
                    attempt.interrupt("lost")
                    continue
                attempt.stored(point)
                if status == "cancelling":
                    attempt.interrupt("cancelled")
