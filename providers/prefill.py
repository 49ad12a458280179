"""How an answer that exists in part is continued: one place for every adapter (design §6, Text)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.clean_text import TextCleaner, clean
from providers.ports import ChatMessage, ChatRequest, ProviderError, TokenCounter

PrefillMode = bool | Literal["continue_final_message", "prefix"]
"""False: cannot; True: a trailing assistant message; `continue_final_message`: vLLM; `prefix`: DeepSeek, Mistral."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What one call sends and may still write.

    `sent` is the existing text without trailing white space, `cut` that white space;
    `sent + cut` is the existing text. `max_tokens` is what is left of the answer's limit:
    0 means that the limit is used up and no call is needed.
    """

    sent: str
    cut: str
    max_tokens: int


def plan_continuation(request: ChatRequest, *, max_output_tokens: int, counter: TokenCounter) -> Continuation:
    """How `request` goes on from its prefill. Raises: nothing."""
    limit = max_output_tokens if request.max_tokens is None else request.max_tokens
    if not request.prefill:
        return Continuation("", "", limit)
    sent = request.prefill.rstrip()
    return Continuation(sent, request.prefill[len(sent) :], max(0, limit - counter.count(request.prefill)))


def check_can_prefill(request: ChatRequest, mode: PrefillMode, name: str) -> None:
    """Raises: ProviderError `bad_request` when a prefill is asked of a model that cannot continue one."""
    if request.prefill and mode is False:
        detail = f'model "{name}" cannot continue a given text; set its `prefill` or send none'
        raise ProviderError("bad_request", detail, retryable=False)


def wire_messages(messages: Sequence[ChatMessage], sent: str, mode: PrefillMode) -> list[dict[str, Any]]:
    """Messages as the chat-completions protocol has them, the text to continue as the last one."""
    wire: list[dict[str, Any]] = [{"role": m.role, "content": clean(m.content)} for m in messages]
    if sent:
        wire.append({"role": "assistant", "content": sent} | ({"prefix": True} if mode == "prefix" else {}))
    return wire


def wire_options(sent: str, mode: PrefillMode) -> dict[str, Any]:
    """Fields of the request's body that the mode needs; empty without a text to continue."""
    if sent and mode == "continue_final_message":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}


@dataclass(slots=True)
class AnswerText:
    """The provider's raw text as it may be counted: well-formed, and the cut white space not repeated.

    For every text and every place where it is interrupted: existing text + what this returns = the text,
    if the provider goes on right after what it was sent.
    """

    cut: str = ""
    _cleaner: TextCleaner = field(default_factory=TextCleaner)

    def feed(self, raw: str) -> str:
        """Text that is certain after `raw`; may be empty."""
        text = self._cleaner.feed(raw)
        return self._without_repetition(text) if self.cut else text

    def flush(self) -> str:
        """What was still held back at the end."""
        return self._without_repetition(self._cleaner.flush())

    def _without_repetition(self, text: str) -> str:
        n = 0
        while n < len(text) and n < len(self.cut) and text[n] == self.cut[n]:
            n += 1
        self.cut = self.cut[n:] if n == len(text) else ""
        return text[n:]
