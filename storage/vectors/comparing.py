"""Rows of a vector table against those that should stand there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.ports import VectorDifference, VectorRow
from storage.vectors.segment import index_terms

TOLERANCE = 1e-4
"""Of a component of a vector: an embedder's arithmetic may differ that much from one machine to another."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it stands; `terms` is its text as it is searched."""

    passage_id: str
    document_id: str
    version: int
    batch_id: str
    ordinal: int
    terms: str
    vector: npt.NDArray[np.float32]

    @classmethod
    def of(cls, row: VectorRow, vector: npt.NDArray[np.float32]) -> Stored:
        """The row that `row` and `vector` lead to."""
        terms = index_terms(row.text)
        return cls(row.passage_id, row.document_id, row.version, row.batch_id, row.ordinal, terms, vector)

    def is_as(self, other: Stored) -> bool:
        """Whether a search cannot tell them apart."""
        columns = ("passage_id", "document_id", "version", "batch_id", "ordinal", "terms")
        return (
            all(getattr(self, column) == getattr(other, column) for column in columns)
            and self.vector.shape == other.vector.shape
            and bool(np.all(np.abs(self.vector - other.vector) <= TOLERANCE))
        )


def as_stored(found: Any) -> list[Stored]:
    """The rows of an Arrow table with the columns of a vector table."""
    columns = ("passage_id", "document_id", "version", "batch_id", "ordinal", "terms")
    vectors = (np.asarray(vector, np.float32) for vector in found["vector"].to_pylist())
    return [Stored(*row) for row in zip(*(found[column].to_pylist() for column in columns), vectors, strict=True)]


def compared(
    wanted: Sequence[tuple[VectorRow, npt.NDArray[np.float32]]], stored: Iterable[Stored]
) -> list[VectorDifference]:
    """What differs, in the order of `wanted`, then what should not stand there; a doubled row is one too many."""
    standing: dict[str, Stored] = {}
    extra: list[Stored] = []
    known = {row.passage_id for row, _ in wanted}
    for one in stored:
        if one.passage_id not in known or one.passage_id in standing:
            extra.append(one)
        else:
            standing[one.passage_id] = one
    found = []
    for row, vector in wanted:
        if row.passage_id not in standing:
            found.append(VectorDifference(row.batch_id, row.passage_id, "missing"))
        elif not standing[row.passage_id].is_as(Stored.of(row, vector)):
            found.append(VectorDifference(row.batch_id, row.passage_id, "changed"))
    return found + [VectorDifference(one.batch_id, one.passage_id, "extra") for one in extra]
