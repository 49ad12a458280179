"""Names of the vector tables: one per tenant and embedding model."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID


def table_name(tenant_id: UUID, model: str) -> str:
    """The table of a tenant's passages under an embedding model: `[a-z0-9_-]`, at most 96 characters.

    Different tenants or models never share one: what the model's name loses here comes back as a hash.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40]
    digest = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{tenant_id.hex}_{slug}_{digest}"
