"""Moments and spans as people write them on the command line: ``now``, ``-24h``, ``2026-11-20``, RFC 3339."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)\Z")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

SPAN_LIMIT_MS = 100 * 366 * 86_400_000
_LATEST_MS = 253_000_000_000_000
"""In the year 9987: any zone can still show it."""

SHAPES = "now, a span before now (-24h, -7d), a day (2026-11-20), or a time (2026-11-20T08:00, with or without zone)"


def moment(text: str, now_ms: int, zone: str) -> int:
    """Unix milliseconds; a day or a time without zone is on the clock of ``zone``.

    Raises `ValueError`, which says what can be written.
    """
    written = text.strip()
    if written == "now":
        return now_ms
    if written.startswith("-"):
        return now_ms - span(written[1:])
    try:
        found = datetime.fromisoformat(written)
    except ValueError as error:
        raise ValueError(f"{text!r} is no moment: write {SHAPES}") from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(zone))
    ms = round(found.timestamp() * 1000)
    if ms > _LATEST_MS or now_ms - ms > SPAN_LIMIT_MS:
        raise ValueError(f"{text!r} is too far away: nothing is kept for 100 years")
    return ms


def span(text: str) -> int:
    """Milliseconds of ``90s``, ``10m``, ``24h``, ``7d``. Raises `ValueError`, which says what can be written."""
    match = _SPAN.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no span of time: write 90s, 10m, 24h or 7d")
    ms = float(match[1]) * _UNITS_MS[match[2]]
    if ms > SPAN_LIMIT_MS:
        raise ValueError(f"{text[:40]!r} is too long: at most 100 years")
    return round(ms)
