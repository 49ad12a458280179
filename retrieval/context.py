"""What the model is given: instructions, history, fenced passages and the question, within its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from providers.ports import ChatMessage, ChatModel, ChatRequest, OfferedPassage, TokenCounter
from retrieval.prompt import (
    EMPTY_FENCE,
    OWN,
    fenced,
    history_message,
    instructions,
    own_fence,
    plain_data,
    question_message,
)
from schemas.commands import Generation
from schemas.errors import Reject
from storage.ports import PassageView
from storage.postgres.conversations import StoredTurn

TOKENS_PER_MESSAGE = 4
"""What a turn costs beside its text (role and separators), as OpenAI's chat format counts it."""
TOKENS_PER_PROMPT = 3
_HISTORY_SHARE = 3
"""A long history leaves at least two thirds of the room to the passages."""
_INSTRUCTIONS_SHARE = 4
"""Long instructions of the tenant's own leave at least three quarters of the room to the rest."""


@dataclass(frozen=True, slots=True)
class PassageRef:
    """Which passage was offered; its place in the plan is its marker."""

    id: UUID
    document_id: UUID
    version: int

    @classmethod
    def of(cls, passage: PassageView) -> PassageRef:
        """The reference to a passage."""
        return cls(passage.id, passage.document_id, passage.version)

    def to_json(self) -> dict[str, object]:
        """The reference as JSON values."""
        return {"id": str(self.id), "document_id": str(self.document_id), "version": self.version}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PassageRef:
        """The reference that `to_json` gave. Raises: KeyError, ValueError if it is none."""
        return cls(UUID(str(value["id"])), UUID(str(value["document_id"])), int(value["version"]))


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What was chosen for a completion; with the same history and passages it makes the same request again.

    `prompt_tokens` is never too low by the counter that it was made with, and at most one a passage too high.
    """

    passages: tuple[PassageRef, ...]
    query: str
    n_history_kept: int
    prompt_tokens: int
    instructions: tuple[PassageRef, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The plan as JSON values."""
        return {
            "passages": [ref.to_json() for ref in self.passages],
            "query": self.query,
            "n_history_kept": self.n_history_kept,
            "prompt_tokens": self.prompt_tokens,
            "instructions": [ref.to_json() for ref in self.instructions],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ContextPlan:
        """The plan that `to_json` gave. Raises: KeyError, ValueError if it is none."""
        return cls(
            passages=tuple(PassageRef.from_json(ref) for ref in value["passages"]),
            query=str(value["query"]),
            n_history_kept=int(value["n_history_kept"]),
            prompt_tokens=int(value["prompt_tokens"]),
            instructions=tuple(PassageRef.from_json(ref) for ref in value.get("instructions", ())),
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the window's tokens went: what of each part was counted, in order, and how much of it was taken.

    `rules` are the system message without the tenant's instructions, with what every prompt costs; `passages` and
    `instructions` hold a cost for each that was given, None where it did not fit.
    """

    window: int
    answer: int
    rules: int
    question: int
    instructions: tuple[int | None, ...]
    passages: tuple[int | None, ...]
    history: tuple[int, ...]
    n_history_kept: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """The request, the plan that rebuilds it, and what was offered: marker n is `offered[n - 1]`.

    `budget` is None where a plan was followed: then nothing was weighed.
    """

    request: ChatRequest
    plan: ContextPlan
    offered: tuple[PassageView, ...]
    prompt_tokens: int
    budget: Budget | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a prompt is made of: `history` oldest first, `offered` best first, the tenant's own `instructions`.

    `query` is what the passages were searched with.
    """

    question: str
    history: Sequence[StoredTurn] = ()
    offered: Sequence[PassageView] = ()
    instructions: Sequence[PassageView] = ()
    query: str = ""


def assemble(
    parts: Parts, *, model: ChatModel, tokens: TokenCounter, plan: ContextPlan | None, generation: Generation
) -> Assembled:
    """The prompt for the question.

    Without a plan the tenant's instructions (at most a quarter of the room), the best passages and the newest whole
    turns that fit are chosen, in that order of care; the prompt and the answer's reserve never exceed the model's
    window. With a plan exactly its choice is taken; a passage that is gone meanwhile keeps its marker and has no
    text. Raises: Reject `context_too_long` if not even the question fits.
    """
    budget = None
    if plan is None:
        plan, budget = _choose(parts, model=model, tokens=tokens, generation=generation)
    chosen = recalled(plan.passages, parts.offered)
    own = recalled(plan.instructions, parts.instructions)
    kept = parts.history[len(parts.history) - min(plan.n_history_kept, len(parts.history)) :]
    request = ChatRequest(
        messages=_messages(parts.question, kept, chosen, own),
        question=parts.question,
        passages=_offered(chosen),
        temperature=generation.temperature,
        max_tokens=generation.max_tokens,
    )
    return Assembled(request, plan, offered=tuple(chosen), prompt_tokens=plan.prompt_tokens, budget=budget)


def _choose(
    parts: Parts, *, model: ChatModel, tokens: TokenCounter, generation: Generation
) -> tuple[ContextPlan, Budget]:
    """Every text is counted once: on a long prompt the counting is what takes time."""
    question = tokens.count(parts.question) + TOKENS_PER_MESSAGE
    answer = generation.max_tokens or min(model.max_output_tokens, model.context_tokens // 2)
    rules = _rules_tokens(tokens, has_passages=bool(parts.offered))
    room = _room(rules + question, answer, model)
    own_costs = _own_costs(parts.instructions, room // _INSTRUCTIONS_SHARE, tokens)
    used = sum(cost for cost in own_costs if cost is not None)
    costs = [
        tokens.count(history_message(turn.sender, turn.content, turn.status).content) + TOKENS_PER_MESSAGE
        for turn in parts.history
    ]
    room_for_passages = room - used - min(sum(costs), (room - used) // _HISTORY_SHARE)
    passage_costs = _passage_costs(parts.offered, room_for_passages, tokens)
    used += sum(cost for cost in passage_costs if cost is not None)
    if parts.offered and not any(passage_costs):
        rules = _rules_tokens(tokens, has_passages=False)
    n_kept = _newest_that_fit(parts.history, costs, room - used)
    plan = ContextPlan(
        passages=_taken(parts.offered, passage_costs),
        query=parts.query or parts.question,
        n_history_kept=n_kept,
        prompt_tokens=rules + question + used + sum(costs[len(costs) - n_kept :]),
        instructions=_taken(parts.instructions, own_costs),
    )
    window = model.context_tokens
    return plan, Budget(window, answer, rules, question, own_costs, passage_costs, tuple(costs), n_kept)


def _taken(passages: Sequence[PassageView], costs: Sequence[int | None]) -> tuple[PassageRef, ...]:
    return tuple(PassageRef.of(view) for view, cost in zip(passages, costs, strict=True) if cost is not None)


def _rules_tokens(tokens: TokenCounter, *, has_passages: bool) -> int:
    fence = tokens.count(EMPTY_FENCE) if has_passages else 0
    return TOKENS_PER_PROMPT + tokens.count(instructions(has_passages=has_passages)) + TOKENS_PER_MESSAGE + fence


def _room(fixed: int, answer: int, model: ChatModel) -> int:
    """Tokens left for the rest once the answer, the rules and the question have theirs."""
    room = model.context_tokens - answer - fixed
    if room < 0:
        raise Reject(
            "context_too_long",
            422,
            f"the question takes {fixed} tokens with its instructions, the answer may take {answer}, and model"
            f' "{model.name}" has room for {model.context_tokens}: ask a shorter question, lower max_tokens, or choose'
            " a model with a larger context",
            field="content",
        )
    return room


def _own_costs(own: Sequence[PassageView], room: int, tokens: TokenCounter) -> tuple[int | None, ...]:
    """The cost of each passage of the instructions, up to the first that does not fit: there are no holes in them."""
    costs: list[int | None] = []
    used, document_id = 0, None
    for passage in own:
        cost = tokens.count(plain_data(passage.text)) + TOKENS_PER_MESSAGE  # and the lines between
        if passage.document_id != document_id:
            cost += tokens.count(own_fence(passage.document_name, ""))
            document_id = passage.document_id
        if not costs:
            cost += tokens.count(OWN)
        used += cost
        costs.append(cost if used <= room and None not in costs else None)
    return tuple(costs)


def _passage_costs(offered: Sequence[PassageView], room: int, tokens: TokenCounter) -> tuple[int | None, ...]:
    """The cost of each passage; one too large is left out (None) for the next."""
    costs: list[int | None] = []
    used = n_chosen = 0
    for passage in offered:
        cost = tokens.count(fenced(n_chosen + 1, passage)) + 1  # and the line's end
        fits = used + cost <= room
        used, n_chosen = used + cost * fits, n_chosen + fits
        costs.append(cost if fits else None)
    return tuple(costs)


def _newest_that_fit(history: Sequence[StoredTurn], costs: Sequence[int], room: int) -> int:
    """How many turns are kept, counted from the newest; the oldest kept one is the user's."""
    n_kept = used = 0
    for i, cost in enumerate(reversed(costs), start=1):
        used += cost
        if used > room:
            break
        if history[-i].sender == "user":
            n_kept = i
    return n_kept


def recalled(refs: Sequence[PassageRef], known: Sequence[PassageView]) -> list[PassageView]:
    """The passages that are meant; one that is not `known` any more keeps its place, with no text."""
    by_id = {passage.id: passage for passage in known}
    return [
        by_id.get(ref.id) or PassageView(ref.id, ref.document_id, "", ref.version, "", None, 0, 0, (), 0)
        for ref in refs
    ]


def _messages(
    question: str, history: Sequence[StoredTurn], passages: Sequence[PassageView], own: Sequence[PassageView]
) -> tuple[ChatMessage, ...]:
    return (
        ChatMessage("system", instructions(has_passages=bool(passages), own=own)),
        *(history_message(turn.sender, turn.content, turn.status) for turn in history),
        question_message(question, passages),
    )


def _offered(passages: Sequence[PassageView]) -> tuple[OfferedPassage, ...]:
    ranks: dict[UUID, int] = {}
    return tuple(
        OfferedPassage(
            marker=marker,
            passage_id=str(passage.id),
            document_name=passage.document_name,
            text=passage.text,
            document_rank=ranks.setdefault(passage.document_id, len(ranks) + 1),
            ordinal=passage.ordinal,
        )
        for marker, passage in enumerate(passages, start=1)
    )
