"""A dictionary that forgets its oldest entry instead of growing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class BoundedMap(Generic[KeyT, ValueT]):
    """At most `max_entries`; the one that was set longest ago goes first."""

    def __init__(self, max_entries: int) -> None:
        self._max = max_entries
        self._entries: OrderedDict[KeyT, ValueT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: KeyT) -> bool:
        return key in self._entries

    def get(self, key: KeyT) -> ValueT | None:
        """The value, or None."""
        return self._entries.get(key)

    def put(self, key: KeyT, value: ValueT) -> None:
        """Sets the value and makes it the newest."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max:
            self._entries.popitem(last=False)

    def discard(self, key: KeyT) -> None:
        """Forgets the entry, if there is one."""
        self._entries.pop(key, None)
