from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.ports import ChatMessage, ChatRequest, ProviderError
from providers.prefill import (
    AnswerText,
    PrefillMode,
    check_can_prefill,
    plan_continuation,
    wire_messages,
    wire_options,
)


@dataclass
class Characters:
    """A `TokenCounter` that counts characters."""

    def count(self, text: str) -> int:
        return len(text)

    def truncate(self, text: str, max_tokens: int) -> str:
        return text[:max_tokens]


WELL_FORMED = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from(" \n\t\u3000ab")
)


@given(text=WELL_FORMED, cut=st.integers(0, 60), pieces=st.integers(1, 7))
def test_wherever_an_answer_is_cut_it_is_continued_exactly(text: str, cut: int, pieces: int) -> None:
    existing = text[:cut]
    plan = plan_continuation(ChatRequest((), prefill=existing), max_output_tokens=10_000, counter=Characters())
    assert plan.sent + plan.cut == existing
    assert plan.sent == existing.rstrip()
    returned = text[len(plan.sent) :]  # the provider goes on right after what it was sent
    answer = AnswerText(plan.cut)
    got = "".join(answer.feed(returned[i : i + pieces]) for i in range(0, len(returned), pieces)) + answer.flush()
    assert existing + got == text


def test_other_white_space_than_was_cut_is_kept() -> None:
    answer = AnswerText("\n\n")
    assert answer.feed("\nNext") == "Next"
    assert answer.feed("\n\nand on") == "\n\nand on"


@given(max_tokens=st.none() | st.integers(1, 50), prefill=WELL_FORMED)
def test_the_limit_shrinks_by_what_exists(max_tokens: int | None, prefill: str) -> None:
    request = ChatRequest((), prefill=prefill, max_tokens=max_tokens)
    plan = plan_continuation(request, max_output_tokens=30, counter=Characters())
    limit = 30 if max_tokens is None else max_tokens
    assert plan.max_tokens == max(0, limit - len(prefill))


@pytest.mark.parametrize(
    ("mode", "message", "options"),
    [
        (True, {"role": "assistant", "content": "So"}, {}),
        ("prefix", {"role": "assistant", "content": "So", "prefix": True}, {}),
        (
            "continue_final_message",
            {"role": "assistant", "content": "So"},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
    ],
)
def test_each_mode_on_the_wire(mode: PrefillMode, message: dict[str, object], options: dict[str, object]) -> None:
    turns = (ChatMessage("user", "Why?\ud800"),)
    assert wire_messages(turns, "So", mode) == [{"role": "user", "content": "Why?\ufffd"}, message]
    assert wire_options("So", mode) == options
    assert wire_messages(turns, "", mode) == [{"role": "user", "content": "Why?\ufffd"}]
    assert wire_options("", mode) == {}


def test_a_model_that_cannot_continue_says_so() -> None:
    check_can_prefill(ChatRequest((), prefill=""), False, "fast")
    with pytest.raises(ProviderError, match='"fast" cannot continue') as raised:
        check_can_prefill(ChatRequest((), prefill="So"), False, "fast")
    assert not raised.value.retryable
