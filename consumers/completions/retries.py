"""What follows a provider call that failed: the same model again, another model, or the end. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from providers.ports import ProviderError
from schemas.events import ErrorInfo

EXHAUSTED = "attempts_exhausted"
_NO_MODEL_HELPS = frozenset({"content_filter", "message_not_found"})
_GROWTH, _GROWTH_BEFORE_FALLBACK = 5.0, 2.0
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Again:
    """The same model, after so long."""

    after_s: float


@dataclass(frozen=True, slots=True)
class FallBack:
    """Another model, at once."""

    model: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The completion fails."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a model is tried.

    Waits grow five times from one attempt without new text to the next, so that five attempts outlast a provider's
    outage of a minute; where another model can answer they begin short and only double. They differ by a fifth, so that
    what failed together does not come back together. A provider's Retry-After is kept, up to the longest wait.
    """

    max_attempts: int = 5
    first_wait_s: float = 0.5
    first_wait_before_fallback_s: float = 0.1
    longest_wait_s: float = 60.0
    longest_wait_before_fallback_s: float = 10.0

    def next_step(
        self, error: ProviderError, *, n_barren: int, fallback: str | None, chance: float
    ) -> Again | FallBack | GiveUp:
        """`n_barren` attempts in a row, this one included, brought no new text; `chance` in [0, 1) decides the jitter.

        `fallback` is the next model that could answer.
        """
        if error.code in _NO_MODEL_HELPS:
            fallback = None
        asked_s = error.retry_after_s or 0.0
        if error.retryable and asked_s <= self._longest_s(fallback) and n_barren < self.max_attempts:
            return Again(max(asked_s * (1 + _JITTER * chance), self.wait_s(n_barren, fallback=fallback, chance=chance)))
        if fallback is not None:
            return FallBack(fallback)
        if error.retryable and n_barren >= self.max_attempts:
            message = f"no new text in {self.max_attempts} attempts; at last: {error.detail}"
            return GiveUp(ErrorInfo(code=EXHAUSTED, message=message))
        return GiveUp(ErrorInfo(code=error.code, message=error.detail))

    def wait_s(self, n_barren: int, *, fallback: str | None, chance: float) -> float:
        """How long a model is left alone after so many attempts without new text."""
        if fallback is None:
            wait_s = self.first_wait_s * _GROWTH ** max(0, n_barren - 1)
        else:
            wait_s = self.first_wait_before_fallback_s * _GROWTH_BEFORE_FALLBACK ** max(0, n_barren - 1)
        wait_s = min(self._longest_s(fallback), wait_s)
        return wait_s * (1 - _JITTER + 2 * _JITTER * chance)

    def _longest_s(self, fallback: str | None) -> float:
        return self.longest_wait_s if fallback is None else self.longest_wait_before_fallback_s
