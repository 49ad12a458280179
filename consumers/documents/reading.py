"""A file into text and passages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumers.documents.claims import Claim
from consumers.documents.parse.document import LIGHT, ParseLimits
from consumers.documents.parse.sandbox import Sandbox
from consumers.documents.passages import DEFAULT_SIZE, PassageDraft, PassageSize, split_into_passages
from providers.ports import TokenCounter


@dataclass(frozen=True, slots=True)
class Reading:
    """What a version says: its text, and the passages in order, spans of that text and so large."""

    text: str
    media_type: str
    n_pages: int
    passages: Sequence[PassageDraft]
    size: PassageSize = DEFAULT_SIZE

    @property
    def has_words(self) -> bool:
        """Whether a passage has a letter or a digit of any script: nothing else can be searched for."""
        return any(character.isalnum() for passage in self.passages for character in passage.text)


Read = Callable[[Path, Claim], Awaitable[Reading]]
"""Reads the version's bytes from a file. Raises: ParseFailed."""


SizeOf = Callable[[str | None], PassageSize]
"""How large the passages of a tenant are, by its name."""


def sandboxed(sandbox: Sandbox, token_counter: TokenCounter, size_of: SizeOf) -> Read:
    """The parsers in a process of their own, then passages sized by `token_counter`, off the loop."""

    async def read(path: Path, claim: Claim) -> Reading:
        limits = LIGHT if claim.is_light else ParseLimits()
        document = await sandbox.parse(path, name=claim.name, media_type=claim.media_type, limits=limits)
        size = size_of(claim.tenant_name)
        passages = await asyncio.to_thread(split_into_passages, document, token_counter, size)
        return Reading(document.text, document.media_type, document.n_pages, passages, size)

    return read
