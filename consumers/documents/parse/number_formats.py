"""Numbers as a spreadsheet shows them (ECMA-376 part 1, 18.8.30 and 18.8.31)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache

BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    37: "#,##0",
    38: "#,##0",
    39: "#,##0.00",
    40: "#,##0.00",
    44: "#,##0.00",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "0.0E+0",
    **dict.fromkeys((*range(27, 37), *range(50, 59)), "yyyy-mm-dd"),
}
"""Formats by their ids; the short dates (14, 22, 27 to 36, 50 to 58) hang on the reader's country: ISO 8601 here."""

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|[_*].|\[\$(?P<currency>[^\]-]*)[^\]]*\]|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<digits>[0#?][0#?,.]*|\.[0#?]+|General|@)|(?P<noon>AM/PM|A/P)|(?P<run>y+|m+|d+|h+|s+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_ELAPSED = re.compile(r"[hms]+", re.IGNORECASE)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_LAST_DAY = 2_958_466  # 9999-12-31

Formatter = Callable[[float, bool], str]
"""(number, whether days count from 1904) -> what is shown."""


@lru_cache(maxsize=4096)
def formatter(code: str) -> Formatter:
    """How numbers look with this format code; a code that is not understood shows them as they are."""
    sections = _sections(code)
    if any(_is_date(section) for section in sections[:1]):
        tokens = list(_TOKEN.finditer(sections[0]))
        return lambda value, from_1904: _date(value, tokens, from_1904=from_1904)
    return lambda value, from_1904: _number(value, sections)


def general(value: float) -> str:
    """A number without a format: up to 15 digits, as they are stored."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"


def _sections(code: str) -> list[str]:
    sections, start, is_quoted = [], 0, False
    for position, character in enumerate(code[:1000]):
        if character == '"':
            is_quoted = not is_quoted
        elif character == ";" and not is_quoted:
            sections.append(code[start:position])
            start = position + 1
    return [*sections, code[start:1000]]


def _is_date(section: str) -> bool:
    for token in _TOKEN.finditer(section):
        if token["run"] or token["noon"] or (token["bracket"] and _ELAPSED.fullmatch(token["bracket"])):
            return True
    return False


def _number(value: float, sections: list[str]) -> str:
    section = sections[0] or "General"
    if value < 0 and len(sections) > 1:
        section, value = sections[1], -value
    elif value == 0 and len(sections) > 2:
        section = sections[2]
    tokens = list(_TOKEN.finditer(section))
    percent = sum(token["other"] == "%" for token in tokens)
    is_scientific = re.search(r"[0#?]E[+-]", section, re.IGNORECASE) is not None
    pieces, is_shown = [], False
    for token in tokens:
        if token["digits"] and not is_shown:
            pieces.append(_digits(abs(value) * 100**percent, token["digits"], is_scientific=is_scientific))
            is_shown = True
        elif not (is_scientific and (token["other"] or "") in "Ee+-"):
            pieces.append(_literal(token))
    return ("-" if value < 0 and is_shown else "") + "".join(pieces).strip()


def _digits(value: float, pattern: str, *, is_scientific: bool) -> str:
    if pattern == "@" or pattern.lower() == "general":
        return general(value)
    whole, _, decimals = pattern.rstrip(",").partition(".")
    n_decimals = sum(character in "0#?" for character in decimals)
    if is_scientific:
        return f"{value:.{n_decimals}E}"
    value /= 1000 ** (len(pattern) - len(pattern.rstrip(",")))
    text = f"{value:{',' if ',' in whole else ''}.{n_decimals}f}"
    head, _, tail = text.partition(".")
    tail = tail[: decimals.count("0")] + tail[decimals.count("0") :].rstrip("0")
    head = head if "," in whole else head.rjust(whole.count("0"), "0")
    return f"{head}.{tail}" if tail else head


def _literal(token: re.Match[str]) -> str:
    if token["digits"] or token["bracket"] is not None:
        return ""
    return token["quoted"] or token["escaped"] or token["currency"] or token["other"] or token["run"] or ""


def _date(value: float, tokens: list[re.Match[str]], *, from_1904: bool) -> str:
    if not 0 <= value < _LAST_DAY or math.isnan(value):
        return general(value)
    day = value + 1462 if from_1904 else value if value >= 61 else value + 1  # there was no 29 February 1900
    has_fraction = any(token["digits"] for token in tokens)
    step = timedelta(milliseconds=1) if has_fraction else timedelta(seconds=1)
    whole = timedelta(days=day) + step / 2
    moment = datetime(1899, 12, 30) + whole - whole % step  # noqa: DTZ001 - a spreadsheet's dates have no zone
    is_12_hours = any(token["noon"] for token in tokens)
    pieces: list[str] = []
    previous = ""
    for index, token in enumerate(tokens):
        run = (token["run"] or "").lower()
        if token["bracket"] is not None:
            if _ELAPSED.fullmatch(token["bracket"]):
                unit = {"h": 24, "m": 1440, "s": 86400}[token["bracket"][0].lower()]
                pieces.append(str(int(value * unit + 1e-6)).rjust(len(token["bracket"]), "0"))
                previous = token["bracket"][0].lower()
        elif token["noon"]:
            pieces.append("AM" if moment.hour < 12 else "PM")
        elif token["digits"]:
            pieces.append(f".{moment.microsecond // 1000:03d}"[: len(token["digits"])])
        elif run:
            is_minute = run[0] == "m" and (previous == "h" or _next_run(tokens, index) == "s")
            pieces.append(_part(moment, "minute" + run if is_minute else run, is_12_hours=is_12_hours))
            previous = run[0]
        else:
            pieces.append(_literal(token))
    return "".join(pieces).strip()


def _next_run(tokens: list[re.Match[str]], index: int) -> str:
    return next((token["run"][0].lower() for token in tokens[index + 1 :] if token["run"]), "")


def _part(moment: datetime, run: str, *, is_12_hours: bool) -> str:
    match run[0], len(run):
        case "y", length:
            return str(moment.year) if length > 2 else f"{moment.year % 100:02d}"
        case "m", length if run.startswith("minute"):
            return f"{moment.minute:0{min(length - 6, 2)}d}"
        case "m", 3:
            return _MONTHS[moment.month - 1][:3]
        case "m", length if length > 3:
            return _MONTHS[moment.month - 1][: 1 if length == 5 else None]
        case "m", length:
            return f"{moment.month:0{length}d}"
        case "d", length if length > 2:
            return _DAYS[moment.weekday()][: 3 if length == 3 else None]
        case "d", length:
            return f"{moment.day:0{length}d}"
        case "h", length:
            hour = (moment.hour + 11) % 12 + 1 if is_12_hours else moment.hour
            return f"{hour:0{min(length, 2)}d}"
        case _, length:
            return f"{moment.second:0{min(length, 2)}d}"
