"""The same thing is offered once, and by several documents where they say as much."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

SAME = 0.8
"""Resemblance from which two passages say the same: a date or a name may differ, a sentence may not."""
_MIN_WORDS = 20
"""In a shorter passage a word makes a difference: only equal ones are the same."""
_LONGEST_WORDS = 12
"""Mean characters a word above which a text is one of a script without spaces: its characters are its words."""
_NOVELTY = 0.05

Item = TypeVar("Item")


def distinct(texts: Iterable[str], *, limit: int) -> tuple[list[int], dict[int, int]]:
    """Positions of the first `limit` texts that say something else than all before; and of what the others are copies.

    Two texts are the same if their words are, or if they share `SAME` of their 4-shingles (resemblance as in Broder:
    "On the resemblance and containment of documents", SEQUENCES 1997).
    """
    kept: list[int] = []
    copies: dict[int, int] = {}
    equal: dict[tuple[str, ...], int] = {}
    shingles_of: dict[int, set[int]] = {}
    for position, text in enumerate(texts):
        words = _words(text)
        shingles = _shingles(words)
        original = equal.get(words)
        if original is None:
            original = next((k for k, others in shingles_of.items() if _resemble(shingles, others)), None)
        if original is not None:
            copies[position] = original
            continue
        if len(kept) == limit:
            break
        kept.append(position)
        equal[words] = position
        if shingles:
            shingles_of[position] = shingles
    return kept, copies


def _words(text: str) -> tuple[str, ...]:
    folded = text.casefold()
    words = folded.split()
    return tuple(folded if len(folded) > _LONGEST_WORDS * len(words) > 0 else words)


def _shingles(words: Sequence[str]) -> set[int]:
    """Their hashes: a tuple for each would have the garbage collector look at all of them."""
    if len(words) < _MIN_WORDS:
        return set()
    return set(map(hash, zip(words, words[1:], words[2:], words[3:], strict=False)))


def _resemble(one: set[int], other: set[int]) -> bool:
    smaller, larger = sorted((len(one), len(other)))
    if smaller < SAME * larger:
        return False
    n = len(one & other)
    return n >= SAME * (smaller + larger - n) > 0


def spread(items: Sequence[tuple[Item, float, Hashable]]) -> list[Item]:
    """Items (with relevance between 0 and 1, and group), best first, so that close scores come from several groups.

    Maximal marginal relevance, with similarity 1 within a group and 0 between groups: an item of a group that was
    chosen from gives way to others that are at most 0.05 worse. Carbonell, Goldstein: "The Use of MMR,
    Diversity-Based Reranking for Reordering Documents and Producing Summaries", SIGIR 1998.
    """
    left = sorted(items, key=lambda item: -item[1])
    chosen: list[Item] = []
    seen: set[Hashable] = set()
    while left:
        best = max(range(len(left)), key=lambda i: (left[i][1] - _NOVELTY * (left[i][2] in seen), -i))
        item, _, group = left.pop(best)
        chosen.append(item)
        seen.add(group)
    return chosen
