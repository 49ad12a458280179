"""Reading in a child process: a hostile file costs one document and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from consumers.documents.parse.document import ParseFailed, ParseLimits
from consumers.documents.parse.pages_read import heard_pages
from consumers.documents.parse.wire import (
    LENGTH_BYTES,
    N_DESCRIPTORS,
    NUMBER_BYTES,
    ParseRequest,
    ReplyPart,
    heard,
    part_length,
    part_of,
)
from consumers.documents.passages import DEFAULT_SIZE, PassageSize, Reading
from schemas.errors import Retry

logger = logging.getLogger(__name__)

_PROJECT = Path(__file__).resolve().parents[3]
_BYTES_PER_CHARACTER = 4
_FRAME_BYTES = 64 * 1024 * 1024  # passages beside the text
_LOG_BYTES = 16 * 1024
_PIPE_BYTES = 256 * 1024
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # a fork copies the tables of a tenth of the pages
_NO_MEMORY = ("MemoryError", "bad_alloc", "annot allocate memory")  # Python, C++, glibc
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


class Sandbox:
    """Reads files, each in a process of its own, which a fork server of this process begins.

    The server is begun by `start`, else at the first file, and replaced when it has died; it ends with this process.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pages: dict[Path, tuple[int, int]] = {}

    def start(self) -> None:
        """Lets the server load what it needs, a second's work, so that the first file need not wait for it."""
        self._running()

    def pages_read(self, path: Path) -> tuple[int, int]:
        """(pages read, of how many) of the file that is being parsed; (0, 0) where that is not known."""
        return self._pages.get(path, (0, 0))

    async def read(
        self,
        path: Path,
        *,
        name: str,
        media_type: str | None,
        size: PassageSize = DEFAULT_SIZE,
        limits: ParseLimits | None = None,
    ) -> Reading:
        """The file at `path` as text and passages; its type is found by content, `name` and `media_type` only hint.

        The parser is held to `limits`, sees no environment and dies with this process and with this task's
        cancellation: when this returns or raises, it is gone. Never blocks the loop.

        Raises: ParseFailed, with the codes listed there; Retry if the fork server died, which is not the file's fault.
        """
        limits = limits or ParseLimits()
        beginning = asyncio.ensure_future(self._begin(ParseRequest(str(path), name, media_type, size, limits)))
        try:
            parser = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await (await beginning).end()
            raise
        try:
            async with asyncio.timeout(limits.wall_s):
                parts, complaint = await asyncio.gather(
                    _parts(parser.stdout, limits.max_characters * _BYTES_PER_CHARACTER + _FRAME_BYTES),
                    self._listen(path, parser.stderr),
                )
                status = await parser.wait()
        except TimeoutError:
            raise _timeout(limits.wall_s) from None
        finally:
            self._pages.pop(path, None)
            await parser.end()
        if status != 0:
            failed = _abnormal_end(status, complaint, limits)
            logger.warning("parser ended with status %d (%s)", status, failed.code)
            raise failed
        return _reading(parts, size)

    async def _listen(self, path: Path, stream: asyncio.StreamReader) -> str:
        """What a parser complains of, the last of it; which pages it has read is kept for who asks."""
        kept = b""
        while piece := await stream.read(1 << 16):
            told, rest = heard_pages(kept + piece)
            self._pages[path] = told or self.pages_read(path)
            kept = rest[-_LOG_BYTES:]
        return kept.decode("utf-8", "replace")

    def close(self) -> None:
        """Ends the fork server, and with it what it began."""
        server, control, self._server, self._control = self._server, self._control, None, None
        if control is not None:
            control.close()
        if server is not None:
            server.kill()
            server.communicate()

    async def _begin(self, request: ParseRequest) -> _Parser:
        """Raises: Retry where even a new server cannot begin one."""
        data = msgspec.json.encode(request)
        for _ in range(2):
            server, control = self._running()
            try:
                return await self._ask(control, data)
            except (OSError, asyncio.IncompleteReadError) as error:
                if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
                    raise Retry(f"no parser can be started: {error}") from error
                logger.warning("the parsers' fork server died: %r", error)
                server.kill()
                await asyncio.to_thread(server.wait)
        raise Retry("no parser can be started: the fork server died twice")

    async def _ask(self, control: socket.socket, data: bytes) -> _Parser:
        with ExitStack() as ours, ExitStack() as theirs:
            ends: list[tuple[int, int]] = []
            for n in range(N_DESCRIPTORS):
                read, write = os.pipe()
                kept, handed_over = (write, read) if n == 0 else (read, write)
                ours.callback(os.close, kept)
                theirs.callback(os.close, handed_over)
                ends.append((kept, handed_over))
            await _sent(control, data, [handed_over for _, handed_over in ends])
            theirs.close()
            stdin, *outputs = (kept for kept, _ in ends)
            opened = [await _opened(output) for output in outputs]
            ours.pop_all()
        return await _Parser.begun(stdin, opened)

    def _running(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._server is not None and self._control is not None and self._server.poll() is None:
            return self._server, self._control
        self.close()
        # Without `site` (-S): a quicker start, and no code from .pth files; the module path is handed on instead.
        module_path = os.pathsep.join(dict.fromkeys([str(_PROJECT), *(entry for entry in sys.path if entry)]))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        with theirs:
            command = ("-S", "-s", "-P", "-X", "utf8", "-m", "consumers.documents.parse.fork_server")
            self._server = subprocess.Popen(
                [sys.executable, *command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.PIPE,  # its end tells the server that this process is gone
                pass_fds=[theirs.fileno()],
                env={"PYTHONPATH": module_path, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", **_HUGE_PAGES},
            )
        self._control = ours
        return self._server, ours


class _Parser:
    """One forked process, as this side sees it."""

    def __init__(self, stdin: int, streams: Sequence[asyncio.StreamReader], pipes: Sequence[asyncio.ReadTransport]):
        self._stdin = stdin
        self.stdout, self.stderr, self._status = streams
        self._pipes = pipes
        self._pid = asyncio.ensure_future(self._number())
        self._is_over = False

    @classmethod
    async def begun(cls, stdin: int, opened: Sequence[tuple[asyncio.StreamReader, asyncio.ReadTransport]]) -> _Parser:
        """Waits until the server has forked. Raises: asyncio.IncompleteReadError if it died before."""
        parser = cls(stdin, [stream for stream, _ in opened], [pipe for _, pipe in opened])
        try:
            await parser._pid
        except asyncio.IncompleteReadError:
            await parser.end()
            raise
        return parser

    async def _number(self) -> int:
        return heard(await self._status.readexactly(NUMBER_BYTES))

    async def wait(self) -> int:
        """The exit code, or minus the signal that ended it. Raises: Retry if the server died, and so it did."""
        try:
            status = await self._number()
        except asyncio.IncompleteReadError:
            self._is_over = True
            raise Retry("the parsers' fork server died") from None
        self._is_over = True
        return status

    async def end(self) -> None:
        """Leaves nothing of it behind."""
        if not self._is_over:
            await asyncio.shield(self._kill())
        os.close(self._stdin)
        for pipe in self._pipes:
            pipe.close()

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, asyncio.IncompleteReadError, Retry):
            os.kill(await self._pid, signal.SIGKILL)
            await self.wait()


async def _sent(control: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Raises: OSError if the server is gone."""
    while True:
        try:
            socket.send_fds(control, [data], descriptors)
        except BlockingIOError:  # it has as many requests before it as a socket holds
            await asyncio.sleep(0.01)
        else:
            return


async def _opened(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    stream = asyncio.StreamReader(limit=_PIPE_BYTES)
    protocol = asyncio.StreamReaderProtocol(stream)
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    return stream, pipe


async def _parts(stream: asyncio.StreamReader, max_bytes: int) -> list[ReplyPart]:
    """The answer as far as it comes: decoded part by part, so that the loop never waits for a whole text."""
    parts: list[ReplyPart] = []
    n_bytes = 0
    with contextlib.suppress(asyncio.IncompleteReadError):
        while not parts or not parts[-1].is_last:
            length = part_length(await stream.readexactly(LENGTH_BYTES))
            n_bytes += LENGTH_BYTES + length
            if n_bytes > max_bytes:
                raise ParseFailed("too_large_text", "The document holds too much text; split it.")
            try:
                parts.append(part_of(await stream.readexactly(length)))
            except msgspec.MsgspecError:
                raise _crashed() from None
    return parts


def _reading(parts: Sequence[ReplyPart], size: PassageSize) -> Reading:
    if not parts or not parts[-1].is_last:
        raise _crashed()
    last = parts[-1]
    if last.code:
        raise ParseFailed(last.code, last.message)
    passages = [passage for part in parts for passage in part.passages]
    return Reading("".join(part.text for part in parts), last.media_type, last.n_pages, passages, size)


def _abnormal_end(status: int, complaint: str, limits: ParseLimits) -> ParseFailed:
    if status == -signal.SIGXCPU:
        return _timeout(limits.cpu_s)
    # PDFium aborts without a word where an allocation fails; glibc says so when it finds a heap corrupted.
    is_silent_abort = status == -signal.SIGABRT and not complaint.strip()
    if status == -signal.SIGKILL or is_silent_abort or any(words in complaint for words in _NO_MEMORY):
        megabytes = limits.memory_bytes // (1024 * 1024)
        return ParseFailed("out_of_memory", f"Reading the document takes more than {megabytes} MB of memory; split it.")
    return _crashed()


def _timeout(seconds: float) -> ParseFailed:
    return ParseFailed("timeout", f"Reading the document takes more than {seconds:g} seconds; split it.")


def _crashed() -> ParseFailed:
    return ParseFailed("parser_crashed", "The parser crashed on this file; it is probably damaged.")
