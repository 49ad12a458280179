"""Parsing in a child process: a hostile file costs one document and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from consumers.documents.parse.document import ParsedDocument, ParseFailed, ParseLimits
from consumers.documents.parse.wire import ParseReply, ParseRequest

logger = logging.getLogger(__name__)

_PROJECT = Path(__file__).resolve().parents[3]
_BYTES_PER_CHARACTER = 4
_FRAME_BYTES = 64 * 1024 * 1024  # blocks and pages beside the text
_LOG_BYTES = 16 * 1024


async def parse_in_sandbox(
    path: Path, *, name: str, media_type: str | None, limits: ParseLimits | None = None
) -> ParsedDocument:
    """The document in the file at `path`; its type is found by content, `name` and `media_type` only hint.

    The parse runs in a process of its own, held to `limits`, that sees no environment and dies with this one
    and with this task's cancellation: when this returns or raises, it is gone. Never blocks the loop.

    Raises: ParseFailed, with the codes listed there.
    """
    limits = limits or ParseLimits()
    request = ParseRequest(str(path), name, media_type, limits, os.getpid())
    process = await _spawn(request)
    try:
        async with asyncio.timeout(limits.wall_s):
            answer, complaint = await asyncio.gather(
                _read(process.stdout, limits.max_characters * _BYTES_PER_CHARACTER + _FRAME_BYTES),
                _read_and_drop(process.stderr, _LOG_BYTES),
            )
            status = await process.wait()
    except TimeoutError:
        raise _timeout(limits.wall_s) from None
    finally:
        await _end(process)
    if status != 0:
        failed = _abnormal_end(status, complaint, limits)
        logger.warning("parser ended with status %d (%s) on %s: %s", status, failed.code, name, complaint.strip())
        raise failed
    return await asyncio.to_thread(_document, answer)


async def _spawn(request: ParseRequest) -> asyncio.subprocess.Process:
    # Without `site` (-S): a quicker start, and no code from .pth files; the module path is handed on instead.
    module_path = os.pathsep.join(dict.fromkeys([str(_PROJECT), *(entry for entry in sys.path if entry)]))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-S", "-s", "-P", "-X", "utf8", "-m", "consumers.documents.parse.child"),
        msgspec.json.encode(request).decode(),
        stdin=asyncio.subprocess.PIPE,  # its end tells the child, where the system has no better way
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": module_path, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
    )


async def _read(stream: asyncio.StreamReader | None, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    n_bytes = 0
    while stream is not None and (piece := await stream.read(1 << 18)):
        n_bytes += len(piece)
        if n_bytes > max_bytes:
            raise ParseFailed("too_large_text", "The document holds too much text; split it.")
        pieces.append(piece)
    return b"".join(pieces)


async def _read_and_drop(stream: asyncio.StreamReader | None, max_bytes: int) -> str:
    """The last `max_bytes` of a stream that may be longer."""
    kept = b""
    while stream is not None and (piece := await stream.read(1 << 16)):
        kept = (kept + piece)[-max_bytes:] if max_bytes else b""
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leaves nothing of the child behind. Its pipes are read to their ends: `wait` waits for that, too."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        rests = _read_and_drop(process.stdout, 0), _read_and_drop(process.stderr, 0)
        await asyncio.shield(asyncio.gather(*rests, process.wait()))


def _document(answer: bytes) -> ParsedDocument:
    try:
        reply = msgspec.msgpack.decode(answer, type=ParseReply)
    except msgspec.MsgspecError:
        raise _crashed() from None
    if reply.document is None:
        raise ParseFailed(reply.code, reply.message)
    return reply.document


def _abnormal_end(status: int, complaint: str, limits: ParseLimits) -> ParseFailed:
    if status == -signal.SIGXCPU:
        return _timeout(limits.cpu_s)
    # PDFium aborts without a word where an allocation fails; glibc says so when it finds a heap corrupted.
    is_silent_abort = status == -signal.SIGABRT and not complaint.strip()
    if status == -signal.SIGKILL or is_silent_abort or "MemoryError" in complaint or "bad_alloc" in complaint:
        megabytes = limits.memory_bytes // (1024 * 1024)
        return ParseFailed("out_of_memory", f"Reading the document takes more than {megabytes} MB of memory; split it.")
    return _crashed()


def _timeout(seconds: float) -> ParseFailed:
    return ParseFailed("timeout", f"Reading the document takes more than {seconds:g} seconds; split it.")


def _crashed() -> ParseFailed:
    return ParseFailed("parser_crashed", "The parser crashed on this file; it is probably damaged.")
