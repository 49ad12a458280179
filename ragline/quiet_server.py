"""uvicorn inside a process that has its own life, on a socket that was bound before anything else was tried."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from ragline.settings import SettingsError


class QuietServer(uvicorn.Server):
    """Runs inside a process that has its own life."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The command handles signals itself."""
        yield


def bind(host: str, port: int, *, setting: str, advice: str) -> socket.socket:
    """A bound socket. Raises: SettingsError, one line, if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"setting {setting}: {host}:{port} cannot be used ({error.strerror}); {advice}") from None
    return listener
