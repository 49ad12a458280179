"""The lines of an OpenAI chat-completions stream, read once and fast."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from providers.failures import from_stream
from providers.ports import Finished, ProviderError
from providers.prefill import AnswerText


class _DeltaPart(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _DeltaPart | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


@dataclass(slots=True)
class Reading:
    """What the lines read so far have said."""

    text: AnswerText
    finish_reason: str | None = None
    done: bool = False
    usage: _Usage | None = None

    def take(self, line: bytes) -> str:
        """The text of one line of the stream; may be empty. Raises: ProviderError."""
        if not line.startswith(b"data:"):
            return ""  # comments, `event:`, `id:` and blank lines
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return ""
        chunk = _decode(data)
        if chunk.error is not None:
            raise from_stream(chunk.error)
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        content = choice.delta.content if choice.delta is not None else None
        return self.text.feed(content) if content else ""

    def take_all(self, lines: list[bytes]) -> tuple[str, ProviderError | None]:
        """The text of `lines` up to the first error, and that error."""
        texts: list[str] = []
        try:
            for line in lines:
                texts.append(self.take(line))  # noqa: PERF401 - what came before an error counts
        except ProviderError as error:
            return "".join(texts), error
        return "".join(texts), None

    @property
    def ended(self) -> bool:
        """Whether the provider has ended the answer: only its usage may still follow."""
        return self.done or self.finish_reason is not None

    def finished(self) -> Finished:
        """The end as the port has it."""
        usage = self.usage or _Usage()
        return Finished(self.finish_reason or "stop", usage.prompt_tokens, usage.completion_tokens)


def _decode(data: bytes) -> _Chunk:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _malformed(data, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # A surrogate pair split over two deltas is valid JSON that msgspec refuses.
    try:
        return msgspec.convert(json.loads(data), _Chunk)
    except (ValueError, msgspec.ValidationError) as error:
        raise _malformed(data, error) from None


def _malformed(data: bytes, error: Exception) -> ProviderError:
    return ProviderError("protocol", f"unreadable chunk {data[:200]!r}: {error}", retryable=True)
