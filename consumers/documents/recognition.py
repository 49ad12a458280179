"""Text recognition (OCR) of scans: a port, and the command that the settings name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from consumers.documents.parse.document import ParseFailed

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "{input}", "{output}"
"""What stands in the command for the scan, and for the PDF with text that is to be made of it."""
_KEPT_BYTES = 4096


class Recognizer(Protocol):
    """Makes text of pictures of text."""

    async def recognized(self, scan: Path) -> Path:
        """A PDF with a text layer beside the PDF `scan`. Raises: ParseFailed `no_text_layer` with the reason."""
        ...


class CommandRecognizer:
    """A command such as `ocrmypdf --skip-text {input} {output}`, in a process group of its own."""

    def __init__(self, command: Sequence[str], *, timeout_s: float = 1800.0) -> None:
        """Raises: ValueError, a sentence's end, for a command that cannot work."""
        if not command or not {INPUT, OUTPUT} <= set(command):
            raise ValueError(f"{INPUT} and {OUTPUT} must be words of the command")
        if shutil.which(command[0]) is None:
            raise ValueError(f"there is no program {command[0]}")
        self._command = tuple(command)
        self._timeout_s = timeout_s

    async def recognized(self, scan: Path) -> Path:
        """See the port. Ended with all its children after `timeout_s`, and when this task is cancelled."""
        output = scan.with_name("recognized.pdf")
        replaced = {INPUT: str(scan), OUTPUT: str(output)}
        try:
            process = await asyncio.create_subprocess_exec(
                *(replaced.get(argument, argument) for argument in self._command),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                cwd=scan.parent,
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(f"{self._command[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                complaint = await _last_of(process.stderr)
                status = await process.wait()
        except TimeoutError:
            raise _failed(f"text recognition took more than {self._timeout_s:g} seconds; split it") from None
        finally:
            await _end(process)
        if status != 0 or not output.is_file():
            logger.warning("text recognition ended with status %d: %r", status, complaint)
            raise _failed(f"text recognition ended with status {status}")
        return output


async def _last_of(stderr: asyncio.StreamReader | None) -> str:
    kept = b""
    while stderr is not None and (piece := await stderr.read(1 << 16)):
        kept = (kept + piece)[-_KEPT_BYTES:]
    return kept.decode("utf-8", "replace")


async def _end(process: Process) -> None:
    """Leaves nothing of it, nor of what it began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


def _failed(why: str) -> ParseFailed:
    return ParseFailed("no_text_layer", f"The PDF has no text layer, and {why}.")
