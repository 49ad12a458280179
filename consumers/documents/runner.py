"""The worker's document jobs: claims what may be learnt, keeps its leases, looks after what others left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from consumers.documents.checkpoints import Checkpoints
from consumers.documents.claims import Claim, another_waits, claim, hand_over, in_work, renew
from consumers.documents.downloads import remove_stale
from consumers.documents.file_reader import FileReader, SizeOf
from consumers.documents.job import BATCH_SIZE, RETRY_S, Job, Read, Release
from consumers.documents.overdue import settle_overdue
from consumers.documents.passages import DEFAULT_SIZE
from consumers.documents.purge import purge_deleted
from consumers.documents.recognition import Recognizer
from consumers.documents.removals import PutOff
from consumers.documents.superseded import remove_superseded
from consumers.documents.vectors import PassageVectors
from consumers.documents.wakeup import Wakeup
from consumers.index.store import VersionKey
from consumers.lease_trust import LeaseTrust
from providers.ports import Embedder
from schemas.errors import Retry, Stop
from storage.log.publisher import OutboxPublisher
from storage.ports import BlobStore, VectorIndex
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

OnFail = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class _Held:
    """A claim at work."""

    claim: Claim
    task: asyncio.Task[None]


class DocumentJobs:
    """Runs at most `slots` document jobs at once in this process, from `start` to `stop`.

    With two slots or more one is kept light: for small files that are read within `LIGHT`, so that neither a large
    document nor a small one that takes long holds them up; what proves heavy there waits for another slot. A job that
    is cut off by the process's end is continued by whoever is free, from its first missing batch.
    """

    _on_fail: OnFail | None = None

    def __init__(
        self,
        *,
        database: Database,
        publisher: OutboxPublisher,
        blobs: BlobStore,
        vectors: VectorIndex,
        embedder: Embedder,
        kafka_bootstrap: str,
        slot_name: str,
        slots: int = 2,
        lease_s: float = 4.0,
        max_attempts: int = 5,
        sweep_s: float = 1.0,
        batch_size: int = BATCH_SIZE,
        read: Read | None = None,
        size_of: SizeOf = lambda _: DEFAULT_SIZE,
        recognizer: Recognizer | None = None,
        caches_vectors: bool = False,
    ) -> None:
        self._database, self._publisher, self._blobs, self._vectors = database, publisher, blobs, vectors
        self._slot_name, self._slots, self._lease_s, self._sweep_s = slot_name, slots, lease_s, sweep_s
        self._reader, self._needs_reader = FileReader(size_of, recognizer), read is None
        self._job = Job(
            checkpoints=Checkpoints(database, publisher, vectors),
            blobs=blobs,
            vectors=PassageVectors(database, embedder, caches=caches_vectors),
            read=read or self._reader.read,
            pages_read=self._reader.pages_read,
            must_give_way=self._must_give_way,
            max_attempts=max_attempts,
            batch_size=batch_size,
        )
        self._held: dict[tuple[UUID, int, int], _Held] = {}
        self._heavy: set[UUID] = set()
        self._served: UUID | None = None  # the tenant that had a place that is not light
        self._turn, self._deleted = asyncio.Event(), asyncio.Event()
        self._unpurged, self._unremoved = PutOff[UUID](), PutOff[VersionKey]()
        self._loops: list[asyncio.Task[None]] = []
        self._wakeup = Wakeup(kafka_bootstrap, client_id=f"{slot_name}-documents", wake=self._wake)

    async def start(self, on_fail: OnFail) -> None:
        """Begins to claim. `on_fail` hears of a bug that ends a loop; a job's own errors end the job only."""
        self._on_fail = on_fail
        await asyncio.to_thread(remove_stale)
        if self._needs_reader:
            self._reader.start()
        renew_s = min(1.0, self._lease_s / 4)
        away_s = max(self._lease_s - renew_s, 2 * self._sweep_s)
        self._trust = LeaseTrust(away_s=away_s, lease_s=self._lease_s, now_s=time.monotonic())
        loops = (
            ("claims", self._repeat(self._claim_free_slots, self._turn, self._sweep_s)),
            ("leases", self._repeat(self._renew, None, renew_s)),
            ("purge", self._repeat(self._purge, self._deleted, self._sweep_s)),
            ("overdue", self._repeat(self._settle_overdue, None, 5 * self._sweep_s)),
        )
        for name, loop in loops:
            task = asyncio.create_task(loop, name=f"documents {name}")
            task.add_done_callback(self._ended)
            self._loops.append(task)
        self._wakeup.start()

    async def stop(self) -> None:
        """Claims no more and hands over what is in work, by leases that end now."""
        await self._wakeup.stop()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        running = [held.task for held in self._held.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._reader.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._on_fail is not None:
            self._on_fail(error)

    def _wake(self) -> None:
        self._turn.set()
        self._deleted.set()

    async def _repeat(self, work: Callable[[], Awaitable[object]], hint: asyncio.Event | None, every_s: float) -> None:
        """Does `work` at once, at every hint, and at least each `every_s`; what is away is tried again."""
        while True:
            if hint is not None:
                hint.clear()
            try:
                await work()
            except Retry as retry:
                logger.warning("documents: %s", retry)
            if hint is None:
                await asyncio.sleep(every_s)
            else:
                await _set_or_timeout(hint, every_s)

    async def _claim_free_slots(self) -> None:
        while len(self._held) < self._slots:
            n_heavy = sum(not held.claim.is_light for held in self._held.values())
            async with self._database.transaction() as work:
                claimed = await claim(
                    work,
                    owner=self._slot_name,
                    lease_s=self._lease_s,
                    is_light=self._slots > 1 and n_heavy >= self._slots - 1,
                    heavy=self._heavy,
                    served=self._served,
                    may_take_over=self._trust.answered(time.monotonic()),
                )
            if claimed is None:
                return
            if not claimed.is_light:
                self._served = claimed.tenant_id
            task = asyncio.create_task(self._run(claimed), name=f"document {claimed.document_id}")
            task.add_done_callback(self._ended)
            self._held[claimed.fence] = _Held(claimed, task)

    async def _must_give_way(self, claimed: Claim) -> bool:
        """Whether its tenant has every place here while a small file of another one waits."""
        holders = {held.claim.tenant_id for held in self._held.values()}
        if len(self._held) < self._slots or holders != {claimed.tenant_id}:
            return False
        try:
            return await another_waits(self._database, than=claimed.tenant_id, heavy=self._heavy)
        except Retry as retry:
            logger.warning("documents: %s", retry)
            return False

    async def _run(self, claimed: Claim) -> None:
        """One attempt; whatever comes out of it, the slot is free again after."""
        release: Release | None = Release()
        try:
            release = await self._job.run(claimed)
        except Stop:
            raise
        except Exception:
            logger.exception("document %s, attempt %s", claimed.document_id, claimed.attempt)
            release = Release(after_s=RETRY_S, is_barren=True)
        finally:
            if release is not None:
                await self._let_go(claimed, release)
            if release is None:
                self._heavy.discard(claimed.document_id)
            elif release.is_heavy:
                self._heavy.add(claimed.document_id)
            del self._held[claimed.fence]
            self._wake()

    async def _let_go(self, claimed: Claim, release: Release) -> None:
        try:
            async with asyncio.timeout(3):
                await hand_over(self._database, claimed, after_s=release.after_s, is_barren=release.is_barren)
        except (Retry, TimeoutError) as error:
            logger.warning("documents: the lease of %s runs out by itself: %s", claimed.document_id, error)

    async def _renew(self) -> None:
        if self._held:
            claims = [held.claim for held in self._held.values()]
            lost_claims = await renew(self._database, claims, lease_s=self._lease_s)
            self._trust.answered(time.monotonic())
            for lost in lost_claims:
                held = self._held.get(lost.fence)
                if held is not None and not held.task.cancelling():  # told twice, it would not tidy up
                    held.task.cancel()

    async def _purge(self) -> None:
        await purge_deleted(self._database, self._blobs, self._vectors, self._unpurged)
        await remove_superseded(self._database, self._vectors, self._unremoved)

    async def _settle_overdue(self) -> None:
        if heavy := frozenset(self._heavy):  # some were deleted, or learnt by another process
            self._heavy -= heavy - await in_work(self._database, heavy)
        await settle_overdue(self._database, self._publisher)


async def _set_or_timeout(hint: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await hint.wait()
