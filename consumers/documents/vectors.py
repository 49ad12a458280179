"""The vectors of passages: a text that was embedded before, in this batch or by this tenant, is not embedded again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from providers.ports import Embedder
from schemas.errors import Retry
from storage.postgres import embedding_cache
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PassageText:
    """What is embedded of a passage; `content_hash` is the SHA-256 of the text in UTF-8, in hex."""

    text: str
    content_hash: str


class PassageVectors:
    """Embeds passages; with `caches` every vector is kept, within its tenant, as soon as it is there."""

    def __init__(self, database: Database, embedder: Embedder, *, caches: bool) -> None:
        self._database = database
        self._embedder = embedder
        self._caches = caches

    @property
    def model(self) -> str:
        """The name of the embedding model."""
        return self._embedder.model

    @property
    def dimensions(self) -> int:
        """The length of its vectors."""
        return self._embedder.dimensions

    async def of(self, tenant_id: UUID, passages: Sequence[PassageText]) -> Vectors:
        """`(len(passages), dimensions)` float32, L2-normalised. Raises: ProviderError; Retry."""
        texts = {passage.content_hash: passage.text for passage in passages}
        known = await self._known(tenant_id, list(texts)) if self._caches else {}
        missing = [one for one in texts if one not in known]
        if missing:
            made = await self._embedder.embed([texts[one] for one in missing])
            fresh = dict(zip(missing, made, strict=True))
            if self._caches:
                await self._keep(tenant_id, fresh)
            known |= fresh
        return np.stack([known[passage.content_hash] for passage in passages])

    async def _known(self, tenant_id: UUID, hashes: Sequence[str]) -> dict[str, Vectors]:
        async with self._database.transaction(tenant_id) as work:
            found = await embedding_cache.find(work, self.model, hashes)
        stale = [one for one, kept in found.items() if not kept.is_fresh]
        if stale:
            async with self._database.transaction() as work:
                await embedding_cache.touch(work, tenant_id, self.model, stale)
        return {one: np.frombuffer(kept.vector, "<f4") for one, kept in found.items()}

    async def _keep(self, tenant_id: UUID, vectors: Mapping[str, Vectors]) -> None:
        """What is paid for is of use even where it cannot be kept."""
        try:
            async with self._database.transaction() as work:
                data = {one: vector.astype("<f4").tobytes() for one, vector in vectors.items()}
                await embedding_cache.store(work, tenant_id, self.model, data)
        except Retry as retry:
            logger.warning("%d vectors were not cached: %s", len(vectors), retry)
