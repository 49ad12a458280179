"""What attempts used, with its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from providers.ports import TokenCounter
from retrieval.follow_up import ModelCall
from schemas.events import TokenUsage
from schemas.ids import derived_id

Prices = Mapping[str, tuple[float, float]]
"""US dollars for a million tokens, in and out, by the model's name."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt used of one model: for its answer, or for the query that the auxiliary model wrote."""

    attempt: int
    model: str
    usage: TokenUsage
    purpose: Literal["answer", "query"] = "answer"

    def event_id(self, completion_id: UUID) -> UUID:
        """The id of its event: counted twice it is the same."""
        names = ("usage", completion_id, self.attempt)
        return derived_id(*names) if self.purpose == "answer" else derived_id(*names, self.purpose)


class Meter:
    """Counts tokens, and prices them where their price is known."""

    def __init__(self, tokens: TokenCounter, prices: Prices) -> None:
        self._tokens = tokens
        self._prices = prices

    def told(self, model: str, input_tokens: int, output_tokens: int) -> TokenUsage:
        """As the provider counted."""
        return self._priced(model, input_tokens, output_tokens, estimated=False)

    def counted(self, model: str, prompt_tokens: int, before: str, written: str) -> TokenUsage:
        """By the text: `before` was given back to the model behind its prompt, `written` is what it made of it."""
        read = prompt_tokens + self._count(before)
        return self._priced(model, read, self._count(written), estimated=True)

    def query_charges(self, attempt: int, calls: Sequence[ModelCall]) -> list[Charge]:
        """What the auxiliary model used for an attempt."""
        return [
            Charge(
                attempt,
                call.model,
                self._priced(call.model, call.input_tokens, call.output_tokens, estimated=call.estimated),
                "query",
            )
            for call in calls
        ]

    def _count(self, text: str) -> int:
        return self._tokens.count(text) if text else 0

    def _priced(self, model: str, input_tokens: int, output_tokens: int, *, estimated: bool) -> TokenUsage:
        price = self._prices.get(model)
        cost = None if price is None else (input_tokens * price[0] + output_tokens * price[1]) / 1_000_000
        return TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost, estimated=estimated)
