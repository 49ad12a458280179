"""The sandbox's other side: `python -m consumers.documents.parse.fork_server CONTROL_FD PARENT_PID`.

It loads the parsers and the tokenizer once and forks itself for each file, which takes a millisecond where a new
interpreter takes a second. It never reads a file itself, so that what a file does to its parser is gone with the fork.
A request is one datagram on the control socket, with four descriptors: what becomes the parser's standard streams, and
a pipe on which its process id is told and then how it ended. When the server's standard input ends, so does it; the
forks die with it.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from consumers.documents.parse.document import ParsedDocument, ParseFailed
from consumers.documents.parse.formats import load, parse
from consumers.documents.parse.limits import bind, die_with
from consumers.documents.parse.pages_read import tell_on
from consumers.documents.parse.wire import MAX_REQUEST_BYTES, N_DESCRIPTORS, ParseRequest, ReplyPart, framed, told
from consumers.documents.passages import has_words, split_into_passages
from providers.tokens import TiktokenCounter

_TOKENS = TiktokenCounter()
_CHARACTERS_A_PART, _PASSAGES_A_PART = 1 << 16, 500


class ForkServer:
    """One thread, so that a fork is whole."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status_pipes: dict[int, int] = {}
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno())

    def serve(self) -> None:
        """Until standard input ends."""
        with selectors.DefaultSelector() as selector:
            for source in (self._control, self._woken, sys.stdin.fileno()):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    self._woken.recv(4096)
                    self._reap()
                if self._control in ready:
                    self._fork()
                if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                    return

    def _fork(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, N_DESCRIPTORS)
        *streams, status_pipe = descriptors
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_parser(data, streams, parent_pid)
        for descriptor in streams:
            os.close(descriptor)
        self._status_pipes[pid] = status_pipe
        _tell(status_pipe, pid)

    def _reap(self) -> None:
        while self._status_pipes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            status_pipe = self._status_pipes.pop(pid)
            _tell(status_pipe, os.waitstatus_to_exitcode(status))
            os.close(status_pipe)


def _tell(status_pipe: int, number: int) -> None:
    try:
        os.write(status_pipe, told(number))
    except BrokenPipeError:  # nobody waits for this parser any more
        return


def _become_parser(data: bytes, streams: list[int], parent_pid: int) -> None:
    """Never returns: the forked process reads, answers and ends, whatever happens."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for standard, stream in enumerate(streams):
            os.dup2(stream, standard)
        os.closerange(3, 4096)
        status = _read(msgspec.json.decode(data, type=ParseRequest), parent_pid)
        sys.stderr.flush()
    finally:
        os._exit(status)  # no clean-up of what ends anyway


def _read(request: ParseRequest, parent_pid: int) -> int:
    """Writes the parts of the answer to standard output."""
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not spoil the answer
    bind(request.limits, parent_pid=parent_pid)
    tell_on(2)
    try:
        for part in _answer(request):
            frame = memoryview(framed(part))
            while frame:
                frame = frame[os.write(output, frame) :]
    except BaseException as error:  # noqa: BLE001 - the border of a process: its traceback tells why it ended
        traceback.print_exception(error)
        return 1
    return 0


def _answer(request: ParseRequest) -> Iterator[ReplyPart]:
    try:
        document = _document(request)
        passages = split_into_passages(document, _TOKENS, request.size)
    except ParseFailed as failed:
        yield ReplyPart(code=failed.code, message=failed.message, is_last=True)
        return
    for start in range(0, len(document.text), _CHARACTERS_A_PART):
        yield ReplyPart(text=document.text[start : start + _CHARACTERS_A_PART])
    for start in range(0, len(passages), _PASSAGES_A_PART):
        yield ReplyPart(passages=tuple(passages[start : start + _PASSAGES_A_PART]))
    yield ReplyPart(media_type=document.media_type, n_pages=document.n_pages, is_last=True)


def _document(request: ParseRequest) -> ParsedDocument:
    """Raises: ParseFailed; MemoryError."""
    document = parse(Path(request.path), name=request.name, media_type=request.media_type, limits=request.limits)
    if not has_words(document.text):
        raise ParseFailed("empty_document", "The file has no text.")
    return document


def main(control_fd: str, parent_pid: str) -> None:
    """Serves until the parent is gone."""
    die_with(int(parent_pid))
    load()
    _TOKENS.count("loads it")
    server = ForkServer(socket.socket(fileno=int(control_fd)))
    gc.collect()
    gc.freeze()  # what is shared with the forks stays so
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:3])
