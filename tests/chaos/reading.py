"""What one reader of a stream was sent, checked as it comes, over all its connections."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ragline.client.sse import SseEvent

TERMINAL = {"completed": "complete", "failed": "failed", "cancelled": "cancelled"}
WITH_ID = {"delta", "reset", *TERMINAL}
_KNOWN_WITHOUT_ID = {"started", "citations", "usage"}
_BENIGN_ERRORS = {"edge_stopping", "log_unavailable", "database_unavailable"}


@dataclass(frozen=True, slots=True)
class Gap:
    """The reader saw nothing from `from_s` to `to_s`, and what came then was another attempt's."""

    from_s: float
    to_s: float

    @property
    def length_s(self) -> float:
        """In seconds."""
        return self.to_s - self.from_s


@dataclass(slots=True)
class History:
    """What happened to one stream, in lines; runs of deltas become one."""

    lines: list[str] = field(default_factory=list)
    _run: tuple[float, float, int, int, int, int] | None = None

    def tell(self, at_s: float, text: str) -> None:
        """Something other than a delta."""
        self._close_run()
        self.lines.append(f"{at_s:8.2f}  {text}")

    def delta(self, at_s: float, attempt: int, start: int, end: int) -> None:
        """A delta; it joins the run if it follows it closely."""
        if self._run is not None:
            first_s, last_s, of, first, last, n = self._run
            if of == attempt and last == start and at_s - last_s < 0.5:
                self._run = (first_s, at_s, of, first, end, n + 1)
                return
        self._close_run()
        self._run = (at_s, at_s, attempt, start, end, 1)

    def text(self) -> list[str]:
        """All lines so far."""
        self._close_run()
        return self.lines

    def _close_run(self) -> None:
        if self._run is not None:
            first_s, last_s, attempt, start, end, n = self._run
            self._run = None
            self.lines.append(f"{first_s:8.2f}  delta {start}..{end} of attempt {attempt} ({n}, to {last_s:.2f})")


@dataclass(slots=True)
class Reading:
    """The reader's own fold of the stream. `faults` are promises that the stream broke."""

    history: History = field(default_factory=History)
    text: str = ""
    last_id: str = ""
    n_resets: int = 0
    n_connections: int = 0
    is_known: bool = False
    terminal: str = ""
    errors: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    _attempt: int | None = None
    _last_delta_s: float = 0.0

    def take(self, event: SseEvent, id_: str, at_s: float) -> None:
        """The next event; `id_` is its own id, "" if it has none."""
        if self.terminal:
            self.fault(at_s, f"{event.event} after the end")
        self.is_known = True
        if event.event in WITH_ID:
            if not id_:
                self.fault(at_s, f"{event.event} without an id")
            elif id_ <= self.last_id:
                self.fault(at_s, f"{event.event} has id {id_} after {self.last_id}")
            self.last_id = id_
        if event.event == "delta":
            self._delta(event, at_s)
        elif event.event == "reset":
            self.text, self.n_resets = "", self.n_resets + 1
            self.history.tell(at_s, f"reset {id_}")
        elif event.event in TERMINAL:
            self.terminal = TERMINAL[event.event]
            self.history.tell(at_s, f"{event.event} {id_} {event.data}")
        elif event.event == "error":
            self._error(event, at_s)
        elif event.event not in _KNOWN_WITHOUT_ID:
            self.fault(at_s, f"an unknown event: {event.event}")

    def is_over(self) -> bool:
        """Whether the terminal event has come."""
        return bool(self.terminal)

    def fault(self, at_s: float, what: str) -> None:
        """The stream broke a promise."""
        self.faults.append(what)
        self.history.tell(at_s, f"FAULT: {what}")

    def _delta(self, event: SseEvent, at_s: float) -> None:
        data = json.loads(event.data)
        attempt, start, end, text = data["attempt"], data["start"], data["end"], data["text"]
        if (start, end) != (len(self.text), len(self.text) + len(text)):
            self.fault(at_s, f"delta {start}..{end} of {len(text)} characters where {len(self.text)} are known")
        if self._attempt is not None and attempt != self._attempt:
            self.gaps.append(Gap(self._last_delta_s, at_s))
        self._attempt, self._last_delta_s = attempt, at_s
        self.text += text
        self.history.delta(at_s, attempt, start, end)

    def _error(self, event: SseEvent, at_s: float) -> None:
        code = json.loads(event.data).get("code", "")
        self.errors.append(code)
        self.history.tell(at_s, f"error event {event.data}")
        if code not in _BENIGN_ERRORS:
            self.fault(at_s, f"error event {code}")
