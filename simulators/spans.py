"""Times, shares and bounds as people write them in a scenario.

Durations are those of the rules (``250ms``, ``10s``, ``5m``, ``26h``, ``2d``); a scenario also takes ``1m30s``,
``1.5 h``, ``90 seconds``, ``2 min``, ``1y`` and ``0``, and a sign where a time may run either way.
"""

import math
import re
from dataclasses import dataclass

from rules.language.entries import Entry, read_duration, write_duration

SPAN = "must be a duration such as 250ms, 10s, 5m, 26h or 2d"

_PART = re.compile(r"(\d{1,9})(?:\.(\d{1,6}))?\s*([A-Za-zµ]+|[毫秒分钟小时天日周年]+)\s*")
_UNITS = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds", "毫秒"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒", "秒钟"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分", "分钟"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时", "时"), "h"),
    **dict.fromkeys(("d", "day", "days", "天", "日"), "d"),
}
_LONG = {
    **dict.fromkeys(("w", "week", "weeks", "周"), 7),
    **dict.fromkeys(("y", "yr", "year", "years", "年"), 365),
}
_COUNT = re.compile(
    r"(?:(at least|>=|≥|at most|<=|≤|exactly|=|==)\s*)?(\d{1,6})(?:\s*(?:\.\.|–|-|to)\s*(\d{1,6}))?\Z"
)

SECONDS_MOST = 120
"""Up to so many seconds are read as seconds."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many there may be."""

    least: int = 1
    most: int | None = None

    def __contains__(self, number: int) -> bool:
        return self.least <= number and (self.most is None or number <= self.most)

    def __str__(self) -> str:
        """As a scenario writes it."""
        if self.most is None:
            return f">= {self.least}"
        if self.least == self.most:
            return str(self.least)
        return f"<= {self.most}" if not self.least else f"{self.least}..{self.most}"


def read_span(text: str) -> int | None:
    """A duration in milliseconds, with or without a sign; None for what is none."""
    text = text.strip()
    sign = -1 if text[:1] in {"-", "−"} else 1
    text = text.lstrip("+-−").strip()
    if text == "0":
        return 0
    if (ms := read_duration(text)) is not None:
        return sign * ms
    total, end = 0.0, 0
    while end < len(text):
        found = _PART.match(text, end)
        if found is None:
            return None
        unit = found[3] if found[3] in _UNITS or found[3] in _LONG else found[3].lower()
        days = _LONG.get(unit)
        size = read_duration(f"{days}d" if days else f"1{_UNITS.get(unit, '')}")
        if size is None:
            return None
        total += float(f"{found[1]}.{found[2] or 0}") * size
        end = found.end()
    return sign * round(total) if end else None


def write_moment(seconds: float) -> str:
    """A time of a story for people: ``17 s``, ``20.5 s``, and from two minutes on ``0:12:15``."""
    tenths = round(seconds * 10)
    if abs(tenths) < SECONDS_MOST * 10:
        return f"{tenths / 10:g} s"
    return write_clock(seconds)


def write_clock(seconds: float) -> str:
    """``1:02:03.4`` of hours, minutes and seconds; days in front where there are any."""
    whole, tenth = divmod(round(seconds * 10), 10)
    days, rest = divmod(whole, 86_400)
    told = f"{rest // 3_600}:{rest % 3_600 // 60:02d}:{rest % 60:02d}" + (f".{tenth}" if tenth else "")
    return f"{days}d {told}" if days else told


def read_bounds(text: str) -> Bounds | None:
    """``3``, ``2..5``, ``>= 2``, ``at most 4``, ``none``; None for anything else."""
    word = text.strip().lower()
    if word in {"none", "no", "never"}:
        return Bounds(0, 0)
    found = _COUNT.match(word)
    if found is None:
        return None
    first, last = int(found[2]), found[3]
    match found[1]:
        case None | "exactly" | "=" | "==":
            bounds = Bounds(first, int(last) if last is not None else first)
        case _ if last is not None:
            return None
        case "at least" | ">=" | "≥":
            bounds = Bounds(first)
        case _:
            bounds = Bounds(0, first)
    return None if bounds.most is not None and bounds.most < bounds.least else bounds


def span(entry: Entry, key: str, *, low_s: float = 0.0, high_s: float = math.inf) -> float | None:
    """The duration under a key, in seconds; a fault goes into the entry."""
    text = entry.text(key)
    if text is None:
        return None
    ms = read_span(text)
    if ms is None:
        entry.fault(key, SPAN, value=text)
    elif not low_s <= ms / 1_000 <= high_s:
        least, most = (_told(bound) for bound in (low_s, high_s))
        entry.fault(
            key, f"must be from {least} to {most}" if most else f"must be at least {least}", value=text
        )
    else:
        return ms / 1_000
    return None


def _told(seconds: float) -> str:
    if math.isinf(seconds):
        return ""
    return f"{'-' if seconds < 0 else ''}{write_duration(abs(round(seconds * 1_000)))}"


def number(entry: Entry, key: str, low: float, high: float, unit: str = "") -> float | None:
    """The number under a key; a share may be written in percent."""
    text = entry.text(key)
    if text is None:
        return None
    bare = text.strip()
    scale = 1.0
    if unit == "share" and bare.endswith("%"):
        bare, scale = bare[:-1].strip(), 0.01
    elif unit and unit != "share":
        bare = bare.removesuffix(unit).strip()
    try:
        value = float(bare) * scale
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    known = "a share from 0 to 1, or a percentage" if unit == "share" else ""
    entry.fault(key, f"must be {known or f'a number from {low:g} to {high:g} {unit}'}".rstrip(), value=text)
    return None


def whole(entry: Entry, key: str, low: int, high: int) -> int | None:
    """The whole number under a key."""
    text = entry.text(key)
    if text is None:
        return None
    if text.isdecimal() and low <= int(text) <= high:
        return int(text)
    entry.fault(key, f"must be a whole number from {low} to {high}", value=text)
    return None


def bounds(entry: Entry, key: str) -> Bounds | None:
    """The bounds under a key."""
    text = entry.text(key)
    if text is None:
        return None
    found = read_bounds(text)
    if found is None:
        entry.fault(key, "must be a count such as 3, 2..5, >= 2 or <= 10", value=text)
    return found
