"""What the model is given: instructions, history, fenced passages and the question, within its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from providers.ports import ChatMessage, ChatModel, ChatRequest, OfferedPassage, TokenCounter
from retrieval.prompt import EMPTY_FENCE, fenced, history_message, instructions, question_message
from schemas.commands import Generation
from schemas.errors import Reject
from storage.ports import PassageView

TOKENS_PER_MESSAGE = 4
"""What a turn costs beside its text (role and separators), as OpenAI's chat format counts it."""
TOKENS_PER_PROMPT = 3
_HISTORY_SHARE = 3
"""A long history leaves at least two thirds of the room to the passages."""


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """An earlier message of the active path; `sender` is `user` or `ai`, `content` may be partial text."""

    sender: str
    content: str
    status: str


@dataclass(frozen=True, slots=True)
class PassageRef:
    """Which passage was offered; its place in the plan is its marker."""

    id: UUID
    document_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What was chosen for a completion; with the same history and passages it makes the same request again.

    `prompt_tokens` is never too low by the counter that it was made with, and at most one a passage too high.
    """

    passages: tuple[PassageRef, ...]
    query: str
    n_history_kept: int
    prompt_tokens: int

    def to_json(self) -> dict[str, object]:
        """The plan as JSON values."""
        return {
            "passages": [
                {"id": str(ref.id), "document_id": str(ref.document_id), "version": ref.version}
                for ref in self.passages
            ],
            "query": self.query,
            "n_history_kept": self.n_history_kept,
            "prompt_tokens": self.prompt_tokens,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ContextPlan:
        """The plan that `to_json` gave. Raises: KeyError, ValueError if it is none."""
        return cls(
            passages=tuple(
                PassageRef(UUID(str(ref["id"])), UUID(str(ref["document_id"])), int(ref["version"]))
                for ref in value["passages"]
            ),
            query=str(value["query"]),
            n_history_kept=int(value["n_history_kept"]),
            prompt_tokens=int(value["prompt_tokens"]),
        )


@dataclass(frozen=True, slots=True)
class Assembled:
    """The request, the plan that rebuilds it, and what was offered: marker n is `offered[n - 1]`."""

    request: ChatRequest
    plan: ContextPlan
    offered: tuple[PassageView, ...]
    prompt_tokens: int


def assemble(
    question: str,
    history: Sequence[HistoryTurn],
    offered: Sequence[PassageView],
    *,
    model: ChatModel,
    tokens: TokenCounter,
    plan: ContextPlan | None,
    generation: Generation,
) -> Assembled:
    """The prompt for `question`: `history` oldest first, `offered` best first.

    Without a plan the best passages and the newest whole turns that fit are chosen, in that order of care; the
    prompt and the answer's reserve never exceed the model's window. With a plan exactly its choice is taken; a
    passage that is gone meanwhile keeps its marker and has no text. Raises: Reject `context_too_long` if not even
    the question fits.
    """
    if plan is None:
        plan, chosen = _choose(question, history, offered, model=model, tokens=tokens, generation=generation)
    else:
        chosen = recalled(plan, offered)
    kept = history[len(history) - min(plan.n_history_kept, len(history)) :]
    request = ChatRequest(
        messages=_messages(question, kept, chosen),
        question=question,
        passages=_offered(chosen),
        temperature=generation.temperature,
        max_tokens=generation.max_tokens,
    )
    return Assembled(request=request, plan=plan, offered=tuple(chosen), prompt_tokens=plan.prompt_tokens)


def _choose(
    question: str,
    history: Sequence[HistoryTurn],
    offered: Sequence[PassageView],
    *,
    model: ChatModel,
    tokens: TokenCounter,
    generation: Generation,
) -> tuple[ContextPlan, list[PassageView]]:
    """Every text is counted once: on a long prompt the counting is what takes time."""
    fixed = _fixed_tokens(question, tokens, has_passages=bool(offered))
    room = _room(fixed, model, generation)
    costs = [
        tokens.count(history_message(turn.sender, turn.content, turn.status).content) + TOKENS_PER_MESSAGE
        for turn in history
    ]
    room_for_passages = room - min(sum(costs), room // _HISTORY_SHARE)
    chosen, used = _fitting_passages(offered, room_for_passages, tokens)
    if offered and not chosen:
        fixed = _fixed_tokens(question, tokens, has_passages=False)
    n_kept = _newest_that_fit(history, costs, room - used)
    plan = ContextPlan(
        passages=tuple(PassageRef(passage.id, passage.document_id, passage.version) for passage in chosen),
        query=question,
        n_history_kept=n_kept,
        prompt_tokens=fixed + used + sum(costs[len(costs) - n_kept :]),
    )
    return plan, chosen


def _fixed_tokens(question: str, tokens: TokenCounter, *, has_passages: bool) -> int:
    system = tokens.count(instructions(has_passages=has_passages)) + TOKENS_PER_MESSAGE
    fence = tokens.count(EMPTY_FENCE) if has_passages else 0
    return TOKENS_PER_PROMPT + system + fence + tokens.count(question) + TOKENS_PER_MESSAGE


def _room(fixed: int, model: ChatModel, generation: Generation) -> int:
    """Tokens left for passages and history once the answer, the instructions and the question have theirs."""
    window = model.context_tokens
    reserve = generation.max_tokens or min(model.max_output_tokens, window // 2)
    room = window - reserve - fixed
    if room < 0:
        raise Reject(
            "context_too_long",
            422,
            f"the question takes {fixed} tokens with its instructions, the answer may take {reserve}, and model"
            f' "{model.name}" has room for {window}: ask a shorter question, lower max_tokens, or choose a model'
            " with a larger context",
            field="content",
        )
    return room


def _fitting_passages(offered: Sequence[PassageView], room: int, tokens: TokenCounter) -> tuple[list[PassageView], int]:
    """The best passages that fit together, in order, and their tokens; one too large is left out for the next."""
    chosen: list[PassageView] = []
    used = 0
    for passage in offered:
        cost = tokens.count(fenced(len(chosen) + 1, passage)) + 1  # and the line's end
        if used + cost <= room:
            chosen.append(passage)
            used += cost
    return chosen, used


def _newest_that_fit(history: Sequence[HistoryTurn], costs: Sequence[int], room: int) -> int:
    """How many turns are kept, counted from the newest; the oldest kept one is the user's."""
    n_kept = used = 0
    for i, cost in enumerate(reversed(costs), start=1):
        used += cost
        if used > room:
            break
        if history[-i].sender == "user":
            n_kept = i
    return n_kept


def recalled(plan: ContextPlan, offered: Sequence[PassageView]) -> list[PassageView]:
    """The plan's passages by marker; one that is not in `offered` any more keeps its place, with no text."""
    by_id = {passage.id: passage for passage in offered}
    return [
        by_id.get(ref.id) or PassageView(ref.id, ref.document_id, "", ref.version, "", None, 0, 0, (), 0)
        for ref in plan.passages
    ]


def _messages(
    question: str, history: Sequence[HistoryTurn], passages: Sequence[PassageView]
) -> tuple[ChatMessage, ...]:
    return (
        ChatMessage("system", instructions(has_passages=bool(passages))),
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
