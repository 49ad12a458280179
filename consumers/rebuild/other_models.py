"""Documents that a search does not find, because they were learnt under another embedding model."""

from __future__ import annotations

import logging

from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)


async def documents_of_other_models(database: Database, model: str) -> dict[str, int]:
    """How many documents were learnt under which other model. Raises: Retry."""
    async with database.transaction() as work:
        rows = await work.fetch(
            "SELECT v.embedding_model AS model, count(*) AS n FROM document_versions v"
            " JOIN documents d ON d.id = v.document_id AND d.active_version = v.version"
            " WHERE d.deleted_at IS NULL AND v.embedding_model <> $1 GROUP BY 1 ORDER BY 1",
            model,
        )
    return {row["model"]: row["n"] for row in rows}


async def warn_of_other_models(database: Database, model: str) -> None:
    """Says in the log how many there are, and what brings them back. Raises: Retry."""
    for other, n in (await documents_of_other_models(database, model)).items():
        logger.warning(
            "search does not find %d documents: they were learnt under the embedding model %s, and %s is configured;"
            " run `ragline rebuild vectors --execute`",
            n,
            other,
            model,
        )
