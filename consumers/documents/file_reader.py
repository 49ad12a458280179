"""A version's file into text and passages: in the sandbox; a scan after its text was recognized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from consumers.documents.claims import Claim
from consumers.documents.parse.document import LIGHT, ParseFailed, ParseLimits
from consumers.documents.parse.sandbox import Sandbox
from consumers.documents.passages import PassageSize, Reading
from consumers.documents.recognition import Recognizer

SizeOf = Callable[[str | None], PassageSize]
"""How large the passages of a tenant are, by its name."""


class FileReader:
    """Reads from `start` to `close`; without a `recognizer` a scan fails with `no_text_layer`."""

    def __init__(self, size_of: SizeOf, recognizer: Recognizer | None) -> None:
        self._sandbox = Sandbox()
        self._size_of = size_of
        self._recognizer = recognizer
        self.pages_read = self._sandbox.pages_read
        self.start = self._sandbox.start
        self.close = self._sandbox.close

    async def read(self, path: Path, claim: Claim) -> Reading:
        """The text and passages of the version's bytes at `path`. Raises: ParseFailed; Retry."""
        try:
            return await self._parsed(path, claim)
        except ParseFailed as failed:
            if failed.code != "no_text_layer" or self._recognizer is None:
                raise
            if claim.is_light:  # pictures take long whatever their size: not in a light place
                raise ParseFailed("timeout", "Text recognition takes a while.") from failed
            return await self._parsed(await self._recognizer.recognized(path), claim)

    async def _parsed(self, path: Path, claim: Claim) -> Reading:
        return await self._sandbox.read(
            path,
            name=claim.name,
            media_type=claim.media_type,
            size=self._size_of(claim.tenant_name),
            limits=LIGHT if claim.is_light else ParseLimits(),
        )
