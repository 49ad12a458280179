"""The four kinds of error, by what the caller does next (design §5.7)."""

from __future__ import annotations


class RaglineError(Exception):
    """Root of the project's own errors; `str(error)` is a sentence for a person."""


class Retry(RaglineError):  # noqa: N818 - named for what the caller does
    """Something outside is away: the same work may succeed later. `after_s` is a hint."""

    def __init__(self, reason: str, *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Busy(Retry):
    """Others hold what this work needs; what needs something else may go on meanwhile."""


class Reject(RaglineError):  # noqa: N818
    """The command cannot take effect; its caller is told `code` (stable), `status` (HTTP) and `detail`.

    A 429 holds for now only: the same command may be sent again, under the same Idempotency-Key.
    """

    def __init__(self, code: str, status: int, detail: str, *, field: str | None = None, **extra: str | int) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.field = field
        self.extra = extra


class DeadLetter(RaglineError):  # noqa: N818
    """The record can never be processed as it is: keep it, say why, go on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Stop(RaglineError):  # noqa: N818
    """The process cannot go on honestly: end it loudly; its supervisor starts a new one."""
