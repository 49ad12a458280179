"""What attempts used, with its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

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


def priced(prices: Prices, model: str, input_tokens: int, output_tokens: int, *, estimated: bool) -> TokenUsage:
    """The tokens with what they cost, where that is known."""
    price = prices.get(model)
    cost = None if price is None else (input_tokens * price[0] + output_tokens * price[1]) / 1_000_000
    return TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost, estimated=estimated)


def query_charges(prices: Prices, attempt: int, calls: Sequence[ModelCall]) -> list[Charge]:
    """What the auxiliary model used for an attempt."""
    return [
        Charge(
            attempt,
            call.model,
            priced(prices, call.model, call.input_tokens, call.output_tokens, estimated=call.estimated),
            "query",
        )
        for call in calls
    ]
