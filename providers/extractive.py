"""The offline answerer: sentences of the retrieved passages, cited. Used only where no model is configured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator

from providers.clean_text import clean
from providers.ports import ChatRequest, Delta, Finished, Timeouts, TokenCounter
from providers.sentence_ranking import Sentence, answering_sentences

NAME = "offline-extractive"
_NOTHING_FOUND = (
    "No passage of your documents matches this question, and no language model is configured, "
    "so there is nothing to answer from."
)
_WORD_GROUP = re.compile(r"(?:\S+\s*){1,4}|\s+")
_GROUP_CHARACTERS = 40


class ExtractiveAnswerer:
    """`ChatModel` that picks and joins the sentences which answer `ChatRequest.question` out of `ChatRequest.passages`.

    Deterministic: the same request gives the same answer, so a prefill is continued exactly. Every sentence is
    followed by its passage's `[marker]`. `max_tokens` ends the answer
    with `length`. Nothing outside `question`, `passages`, `prefill` and `max_tokens` counts.
    """

    def __init__(self, *, name: str = NAME, counter: TokenCounter) -> None:
        self._name = name
        self._counter = counter

    @property
    def name(self) -> str:
        """What stands in every answer's `model`: that no model wrote it."""
        return self._name

    @property
    def can_prefill(self) -> bool:
        """True."""
        return True

    @property
    def context_tokens(self) -> int:
        """There is no window; this bounds how much text is offered."""
        return 16_384

    @property
    def max_output_tokens(self) -> int:
        """More than five sentences need."""
        return 4_096

    @property
    def timeouts(self) -> Timeouts:
        """Nothing is waited for."""
        return Timeouts()

    async def close(self) -> None:
        """Nothing to give up."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished, None]:
        """See `ChatModel.stream`. A prefill that is not the answer's beginning is followed by the whole answer."""
        # A few milliseconds of work: in a thread, so that other streams of the process go on.
        answer = await asyncio.to_thread(compose, request)
        limit = self.max_output_tokens if request.max_tokens is None else request.max_tokens
        kept = self._counter.truncate(answer, limit)
        rest = kept[len(request.prefill) :] if answer.startswith(request.prefill) else _appended(kept, request.prefill)
        for piece in _word_groups(rest):
            yield Delta(piece)
            await asyncio.sleep(0)
        yield Finished(
            "stop" if kept == answer else "length",
            input_tokens=sum(self._counter.count(passage.text) for passage in request.passages),
            output_tokens=self._counter.count(kept),
        )


def compose(request: ChatRequest) -> str:
    """The whole answer to `request`."""
    chosen = answering_sentences(request.question, request.passages)
    return clean(" ".join(_cited(chosen))) or _NOTHING_FOUND


def _cited(chosen: list[Sentence]) -> Iterator[str]:
    """Every sentence has its own marker, so that every citation quotes what stands before it."""
    for sentence in chosen:
        yield f"{sentence.text} [{sentence.passage.marker}]"


def _appended(answer: str, prefill: str) -> str:
    # The passages have changed since the beginning was written: what stands is kept, a new answer follows.
    return answer if prefill[-1:].isspace() else f" {answer}"


def _word_groups(text: str) -> Iterator[str]:
    for match in _WORD_GROUP.finditer(text):
        group = match.group()
        for start in range(0, len(group), _GROUP_CHARACTERS):  # scripts without spaces
            yield group[start : start + _GROUP_CHARACTERS]
