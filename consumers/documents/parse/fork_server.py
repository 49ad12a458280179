"""The sandbox's other side: `python -m consumers.documents.parse.fork_server CONTROL_FD PARENT_PID`.

It loads the parsers once and forks itself for each file, which takes a millisecond where a new interpreter takes sixty.
It never reads a file itself, so that what a file does to its parser is gone with the fork. A request is one datagram
on the control socket, with four descriptors: what becomes the parser's standard streams, and a pipe on which its
process id is told and then how it ended. When the server's standard input ends, so does it; the forks die with it.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

import msgspec

from consumers.documents.parse.document import ParseFailed
from consumers.documents.parse.formats import load, parse
from consumers.documents.parse.limits import bind, die_with
from consumers.documents.parse.pages_read import tell_on
from consumers.documents.parse.wire import MAX_REQUEST_BYTES, N_DESCRIPTORS, ParseReply, ParseRequest, told


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
    """Never returns: the forked process parses, answers and ends, whatever happens."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for standard, stream in enumerate(streams):
            os.dup2(stream, standard)
        os.closerange(3, 4096)
        status = _parse(msgspec.json.decode(data, type=ParseRequest), parent_pid)
        sys.stderr.flush()
    finally:
        os._exit(status)  # no clean-up of what ends anyway


def _parse(request: ParseRequest, parent_pid: int) -> int:
    """Writes a ParseReply as msgpack to standard output."""
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not spoil the answer
    bind(request.limits, parent_pid=parent_pid)
    tell_on(2)
    try:
        answer = _answer(request)
    except BaseException as error:  # noqa: BLE001 - the border of a process: its traceback tells why it ended
        traceback.print_exception(error)
        return 1
    while answer:
        answer = answer[os.write(output, answer) :]
    return 0


def _answer(request: ParseRequest) -> memoryview:
    try:
        document = parse(Path(request.path), name=request.name, media_type=request.media_type, limits=request.limits)
        return memoryview(msgspec.msgpack.encode(ParseReply(document=document)))
    except ParseFailed as failed:
        return memoryview(msgspec.msgpack.encode(ParseReply(code=failed.code, message=failed.message)))


def main(control_fd: str, parent_pid: str) -> None:
    """Serves until the parent is gone."""
    die_with(int(parent_pid))
    load()
    server = ForkServer(socket.socket(fileno=int(control_fd)))
    gc.collect()
    gc.freeze()  # what is shared with the forks stays so
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:3])
