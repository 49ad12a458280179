"""What became of each passage, as the preview tells it."""

from __future__ import annotations

from dataclasses import replace

from producers.edge.session_context import view_of
from retrieval.context import Parts, assemble
from retrieval.follow_up import StandaloneQuery
from retrieval.preparing import Preparation, Weighed
from retrieval.search import Found, ScoredPassage
from retrieval.steps import Steps
from schemas.commands import Generation
from storage.ports import PassageView
from tests.unit.retrieval.passages import passage
from tests.unit.retrieval.test_context import Window, Words


def found(view: PassageView, score: float = 1.0) -> ScoredPassage:
    return ScoredPassage(view, score, {"text": 1}, score)


def test_every_passage_says_why_it_is_in_the_prompt_or_not() -> None:
    fits, large, worse, copied = (passage(f"{name} passage", number=n) for n, name in enumerate("abcd"))
    large = replace(large, text="word " * 3_000)
    opening, rules = passage("opening", number=7), passage("rule", number=8)
    weighed = tuple(Weighed(found(view), 0.5, False, view is not worse) for view in (fits, large, worse))
    assembled = assemble(
        Parts("why?", (), [fits, large, opening], [rules]),
        model=Window(context_tokens=2_000),
        tokens=Words(),
        plan=None,
        generation=Generation(),
    )
    items = tuple(one.item for one in weighed)
    prepared = Preparation(
        assembled,
        StandaloneQuery("why?", "question"),
        Found(items, ((found(copied), fits.id),), "features"),
        weighed,
        (opening,),
        (rules,),
        Steps({"search": 0.0012345}),
    )
    view = view_of(prepared, Window(), Words())
    told = {one.id: (one.marker, one.left_out, one.is_opening) for one in view.passages}
    assert told == {
        fits.id: (1, None, False),
        large.id: (None, "no_room", False),
        opening.id: (2, None, True),
        worse.id: (None, "below_cut", False),
        copied.id: (None, "copy", False),
    }
    assert [one.copy_of for one in view.passages if one.copy_of] == [fits.id]
    assert view.steps_ms == {"search": 1.234}
    assert (view.tokens.window, view.tokens.answer) == (2_000, 500)
