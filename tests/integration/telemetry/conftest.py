"""An edge beside the status pages."""

from __future__ import annotations

from tests.integration.edge.conftest import edge, somebody

__all__ = ["edge", "somebody"]
