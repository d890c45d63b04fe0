"""Moments and lengths of time as people write them into a URL."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field

STEP = r"^[1-9]\d{0,5}[smhd]$"

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LATEST_MS = 10**15


def _moment(written: object) -> object:
    """Unix milliseconds of RFC 3339 with a zone; everything else as it is."""
    if not isinstance(written, str) or written.lstrip("-").isdecimal():
        return written
    try:
        moment = datetime.fromisoformat(written.replace(" ", "+"))  # a plus sign in a URL is a space
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be RFC 3339 with a zone, as 2026-11-22T08:00:00+08:00, or Unix milliseconds")
    return int(moment.timestamp() * 1000)


Moment = Annotated[int, Field(ge=0, le=_LATEST_MS), BeforeValidator(_moment)]
"""Unix milliseconds."""


def _step(written: object) -> object:
    if not isinstance(written, str) or re.fullmatch(STEP, written) is None:
        raise ValueError("must be a length of time, as 30s, 5m, 1h or 1d")
    return written


Step = Annotated[str, Field(pattern=STEP), BeforeValidator(_step)]
"""A length of time, as `step_of` reads it."""


def step_of(text: str) -> int:
    """Milliseconds of a text like `STEP`."""
    return int(text[:-1]) * _UNITS_MS[text[-1]]
