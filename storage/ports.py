"""Ports of the stores that have several adapters: blobs and vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from schemas.attributes import AttributeValue
from schemas.errors import RaglineError, Retry


class BlobNotFound(RaglineError):  # noqa: N818 - reads as the fact it is
    """No blob stands at the key."""


class StorageFull(Retry):
    """No more fits into the blob store; nothing was kept."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What was written: size in bytes and SHA-256 in lower-case hex."""

    key: str
    size_bytes: int
    sha256: str


class BlobStore(Protocol):
    """Bytes by key. Keys are `/`-separated ASCII segments of `[A-Za-z0-9._-]`, never `.` or `..`.

    A key is either absent or whole: a write that dies half way leaves nothing readable.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> StoredBlob:
        """Streams `chunks` to `key`, replacing what was there; memory is bounded by one part.

        An error raised by `chunks` is passed on and nothing is kept. Raises: Retry if the store is away; StorageFull.
        """
        ...

    async def put_bytes(self, key: str, data: bytes) -> StoredBlob:
        """`put` for bytes at hand."""
        ...

    async def put_if_absent(self, key: str, data: bytes) -> bool:
        """`put_bytes` where nothing stands at `key`; False, and nothing changed, where something does.

        Of several at once exactly one is told True, by a store that keeps its promise: `ragline doctor` tries it.
        """
        ...

    async def download_url(self, key: str, *, media_type: str, disposition: str, expires_s: int) -> str | None:
        """Where anybody can GET the blob for `expires_s`, with these two headers; None: it is only to be had by `read`.

        Whoever changes a part of the address is refused. Whether the blob exists is not asked.
        """
        ...

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `[start, end)` in pieces of at most 1 MiB. Raises: BlobNotFound before the first piece."""
        ...

    async def read_bytes(self, key: str) -> bytes:
        """The whole blob. Raises: BlobNotFound."""
        ...

    async def size(self, key: str) -> int:
        """Size in bytes. Raises: BlobNotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the blob; absent is fine."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Removes every blob whose key begins with `prefix` (ends with `/`); the number removed."""
        ...

    def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """Keys that begin with `prefix`, sorted."""
        ...

    async def close(self) -> None:
        """Gives up connections."""
        ...


@dataclass(frozen=True, slots=True)
class VectorRow:
    """One passage in the index. `batch_id` names the checkpointed batch that wrote it."""

    passage_id: str
    document_id: str
    version: int
    batch_id: str
    ordinal: int
    text: str


@dataclass(frozen=True, slots=True)
class VectorHit:
    """A candidate: which passage, and its score (higher is better; comparable only within one call)."""

    passage_id: str
    score: float


@dataclass(frozen=True, slots=True)
class VectorDifference:
    """One row of a vector table that is not as it should be."""

    batch_id: str
    passage_id: str
    kind: Literal["missing", "extra", "changed"]


class VectorIndex(Protocol):
    """Passages by vector and by text: one table per tenant and embedding model.

    One writer per table at a time (the caller holds its lease). A reader sees every write that was
    finished before its call, by any process. Only candidates come back: PostgreSQL decides what is visible.
    """

    async def replace_batches(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], npt.NDArray[np.float32]]], *, dimensions: int
    ) -> None:
        """Makes each batch's rows the only rows of its `batch_id`; `(n_rows, dimensions)` float32, L2-normalised.

        Idempotent. Creates the table at need. One commit for all batches. Raises: Retry.
        """
        ...

    async def search(
        self,
        table: str,
        *,
        vector: npt.NDArray[np.float32] | None,
        text: str | None,
        limit: int,
        document_ids: Sequence[str] | None = None,
    ) -> dict[Literal["vector", "text"], list[VectorHit]]:
        """Best `limit` hits of each leg that was asked for, best first; `{}` lists when the table is absent."""
        ...

    async def delete_documents(self, table: str, document_ids: Sequence[str]) -> None:
        """Removes every row of the documents. Idempotent."""
        ...

    async def count(self, table: str) -> int:
        """Rows of the table; 0 when absent."""
        ...

    async def batch_sizes(self, table: str) -> dict[str, int]:
        """How many rows each `batch_id` has; `{}` when the table is absent."""
        ...

    async def differences(
        self, table: str, batches: Sequence[tuple[Sequence[VectorRow], npt.NDArray[np.float32]]]
    ) -> list[VectorDifference]:
        """How the rows of the batches' ids differ from those given, vectors by more than 1e-4 in a component.

        In an absent table every row is missing.
        """
        ...

    async def delete_batches(self, table: str, batch_ids: Sequence[str]) -> None:
        """Removes every row of the batches. Idempotent."""
        ...

    async def optimize(self, table: str) -> None:
        """Compacts fragments, updates indexes, drops old versions."""
        ...

    async def drop(self, table: str) -> None:
        """Removes the table; absent is fine."""
        ...

    async def close(self) -> None:
        """Gives up open tables."""
        ...


@dataclass(frozen=True, slots=True)
class PassageView:
    """A passage as readers see it: `text` stands at `[start, end)` code points of its document's text.

    `page` counts from 1 and is None where there are no pages; `ordinal` counts the passages of the version from 0.
    """

    id: UUID
    document_id: UUID
    document_name: str
    version: int
    text: str
    page: int | None
    start: int
    end: int
    heading_path: tuple[str, ...]
    ordinal: int
    document_type: str = "document"


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents: those that meet all that is given.

    Of `types` one, of `not_types` none, of `tags` and `attributes` (name and value, each name once) every one.

    A document was created in `[created_after, created_before)`.
    """

    document_ids: tuple[UUID, ...] | None = None
    types: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    not_types: tuple[str, ...] = ()
    attributes: tuple[tuple[str, AttributeValue], ...] = ()

    @property
    def names_documents(self) -> bool:
        """Whether it says nothing beyond the ids, so that nobody need be asked."""
        return self == DocumentFilter(document_ids=self.document_ids)
