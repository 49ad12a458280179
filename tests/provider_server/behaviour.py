"""What the test server answers and how it misbehaves: pure functions and one value."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl

_WORD_LIST = (
    "the trace loop compiler value answer passage stream lease offset replica "
    "größer Straße naïve café façade Øre Žižka ответ поток документ "
    "추적 기반 컴파일러 문서를 답변은 記録 追跡 の 漢字 東京都 索引 你好 编译器 مرحبا שלום नमस्ते "
    '😀 🚀 👩‍👩‍👧 🇰🇷 𝒜𝓁𝑔 𐍈 𠮷野家 é ﬁn ½ “quoted” — … [1] [2] ``` **bold** 3.14 \\n "json" \t tab'
)
_WORDS = tuple(_WORD_LIST.split(" "))
_ENDINGS = (" ", " ", " ", " ", " ", " ", ", ", ". ", ".\n", "\n\n", "  ", "")
_DIRECTIVES = re.compile(r"\[\[([^\]]*)\]\]")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a call is answered. The default answers at once, in full, correctly.

    Positions (`drop_after`, …) count tokens of this call. `times` bounds how many calls with one
    (model, question) are refused or disturbed: the calls after them are answered well; -1 is all.
    """

    n_tokens: int = 64
    text: str = ""  # instead of the seeded words; a token per word
    seed: str = ""
    tokens_per_s: float = 0.0  # 0: as fast as possible
    first_token_s: float = 0.0
    tokens_per_write: int = 1
    prefill: bool = True  # goes on after a trailing assistant message
    usage: bool = True
    split_surrogates: bool = False  # code points outside the BMP come as two deltas
    plain_end: bool = False  # ends after the finish_reason, without [DONE]
    refuse: str = ""  # a field of the request's body that is answered with 400
    times: int = -1
    error_status: int = 0
    error_code: str = ""
    retry_after: str = ""
    drop_after: int = -1  # the connection breaks
    end_after: int = -1  # the body ends properly, but without finish_reason and [DONE]
    malformed_after: int = -1
    error_after: int = -1  # an {"error": …} object in the stream
    stall_after: int = -1  # silence, the connection stays
    hang: bool = False  # no answer, not even headers
    width: int = 8  # of vectors that are asked for without `dimensions`
    max_inputs: int = -1  # texts of one request for vectors; more are refused
    max_input_characters: int = -1  # of a text to embed; a longer one is refused

    @property
    def stop_after(self) -> int:
        """The first token that is not sent because of a disturbance; -1: none."""
        positions = [self.drop_after, self.end_after, self.malformed_after, self.error_after, self.stall_after]
        return min((p for p in positions if p >= 0), default=-1)

    def calm(self) -> Behaviour:
        """The same without its refusals and disturbances."""
        return replace(
            self,
            error_status=0,
            drop_after=-1,
            end_after=-1,
            malformed_after=-1,
            error_after=-1,
            stall_after=-1,
            hang=False,
        )

    def with_changes(self, changes: dict[str, Any]) -> Behaviour:
        """Changed by name, values as text or as they are. Raises: ValueError for an unknown name."""
        types = {f.name: str(f.type) for f in fields(self)}
        if unknown := changes.keys() - types.keys():
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(types)}")
        return replace(self, **{name: _as(types[name], value) for name, value in changes.items()})

    def for_call(self, model: str, question: str) -> Behaviour:
        """With the directives in the model's name and in the question applied."""
        changes: dict[str, Any] = dict(parse_qsl(model.partition("?")[2]))
        for directive in _DIRECTIVES.findall(question):
            changes.update(part.partition("=")[::2] for part in directive.split())
        return self.with_changes(changes) if changes else self


def _as(kind: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if kind == "bool":
        return value.lower() in ("1", "true", "yes")
    return {"int": int, "float": float, "str": str}[kind](value)


@functools.lru_cache(maxsize=4096)
def answer_tokens(question: str, behaviour: Behaviour) -> tuple[str, ...]:
    """The tokens of the full answer: depends on the question, `seed`, `n_tokens` and `text` only."""
    if behaviour.text:
        return tuple(re.findall(r"\S+\s*|\s+", behaviour.text))
    digest = hashlib.sha256(f"{behaviour.seed}\0{question}".encode("utf-8", "surrogatepass")).digest()
    rng = random.Random(digest)
    return tuple(rng.choice(_WORDS) + rng.choice(_ENDINGS) for _ in range(behaviour.n_tokens))


def answer_text(question: str, behaviour: Behaviour | None = None) -> str:
    """The full answer that the server gives to `question`, directives included."""
    behaviour = (behaviour or Behaviour()).for_call("", question)
    return "".join(answer_tokens(question, behaviour))


def tokens_after(tokens: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    """What follows `prefix`, the cut token first; all tokens if the answer does not begin with it."""
    left = len(prefix)
    if not "".join(tokens).startswith(prefix):
        return tokens
    for i, token in enumerate(tokens):
        if left < len(token):
            return (token[left:], *tokens[i + 1 :])
        left -= len(token)
    return ()
