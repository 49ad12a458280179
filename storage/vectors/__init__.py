"""Passages by vector and by text."""

from storage.vectors.names import table_name

__all__ = ["table_name"]
