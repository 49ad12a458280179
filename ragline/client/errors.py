"""What can go wrong for a client; `str(error)` is one line that says what to do."""

from __future__ import annotations

FAILED = 1
WRONG_USE = 2
NO_SERVER = 3


class ClientError(Exception):
    """Root; `exit_code` is what the command line ends with."""

    exit_code = FAILED


class UnreachableError(ClientError):
    """No server answers, or it does not take the key."""

    exit_code = NO_SERVER


class WrongUseError(ClientError):
    """The command line names something that is not there."""

    exit_code = WRONG_USE


class RefusedError(ClientError):
    """The server answered with an error (RFC 9457); `code` is stable."""

    def __init__(self, status: int, code: str, detail: str, members: dict[str, object] | None = None) -> None:
        super().__init__(f"{detail} ({code})" if code else detail)
        self.status = status
        self.code = code
        self.members = members or {}


class CutError(ClientError):
    """A stream ended before its end; the same stream can be read on from the last event."""
