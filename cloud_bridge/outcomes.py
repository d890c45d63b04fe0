"""What an answer of the cloud store means: a closed set, decided by a pure function.

===========================  ============================================================================
204                          stored; nothing else is
any other 2xx, 3xx           not the store: keep everything, say what answered; redirects are not followed,
                             because the token and the residents' data would go along
400, 422                     a line is bad (InfluxDB may have stored the others: sending them again is
                             harmless): isolate it
401, 403, 404, other 4xx     a person must mend something: keep everything, say what
408, 425, 429, 5xx           wait; ``Retry-After`` is honoured, as seconds or a date, up to 15 minutes
413                          too much at once: halve
no answer                    wait: refused, timed out, cut off, TLS failed
===========================  ============================================================================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

RETRY_AFTER_LIMIT_S: Final = 900.0
"""A store that asks for more than 15 minutes is asked again after 15 minutes."""

WORDS_LIMIT: Final = 300
"""Characters of the store's words that are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response. ``headers`` has lower-case names; ``body`` may be cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """All lines of the request are in the store."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Send the same again later, not before ``retry_after_s`` if the store named a time."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class FixNeeded:
    """Nothing is lost and nothing goes out until a person has followed ``reason``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Halve:
    """The request is too large; a single line that is, is bad."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class Isolate:
    """At least one line is bad; ``words`` are the store's."""

    status: int
    words: str


Outcome = Stored | Wait | FixNeeded | Halve | Isolate


def decide(answer: Answer, now_s: float) -> Outcome:
    """What to do after ``answer``, which came at ``now_s`` (Unix seconds; needed for a date in it)."""
    said = words(answer)
    match answer.status:
        case 204:
            return Stored()
        case 400 | 422:
            return Isolate(answer.status, said)
        case 413:
            return Halve(answer.status, said)
        case 408 | 425 | 429:
            return Wait(f"the cloud store answered {answer.status}: {said}", _retry_after(answer, now_s))
        case status if status >= 500:  # noqa: PLR2004 - HTTP
            return Wait(f"the cloud store answered {status}: {said}", _retry_after(answer, now_s))
        case _:
            return FixNeeded(_remedy(answer, said))


def words(answer: Answer) -> str:
    """What the store said, on one line: its JSON message, else its error header, else its body."""
    try:
        said = msgspec.json.decode(answer.body, type=_Message).message
    except msgspec.MsgspecError:
        said = answer.headers.get("x-influx-error", "") or answer.body.decode("utf-8", "replace")
    except UnicodeDecodeError:
        said = answer.body.decode("utf-8", "replace")
    return _plain(said) or "no words"


def _plain(said: str) -> str:
    """On one line, without what a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())[:WORDS_LIMIT]


class _Message(msgspec.Struct):
    """InfluxDB's error body."""

    message: str


def _remedy(answer: Answer, said: str) -> str:
    status = answer.status
    match status:
        case 401:
            return f"the cloud store does not know the token (401: {said}): check cloud.token_file"
        case 403:
            return f"the token may not write (403: {said}): give it write access to cloud.bucket"
        case 404:
            return f"no such place to write (404: {said}): check cloud.url, cloud.org and cloud.bucket"
        case _ if 300 <= status < 400:  # noqa: PLR2004 - HTTP
            place = answer.headers.get("location", "an unnamed place")[:WORDS_LIMIT]
            return f"cloud.url redirects to {place!r} ({status}): set cloud.url to where the store really is"
        case _:
            server = _plain(answer.headers.get("server", "")) or "an unnamed server"
            return (
                f"{server} answered {status} where only 204 means stored ({said}): "
                "is cloud.url the address of an InfluxDB v2 write API?"
            )


_SECONDS = re.compile(r"[0-9]+")


def _retry_after(answer: Answer, now_s: float) -> float | None:
    told = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(told):
        seconds = float(told[:10]) if len(told.lstrip("0")) <= 9 else RETRY_AFTER_LIMIT_S  # noqa: PLR2004
    else:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - now_s
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_LIMIT_S) if seconds > 0 else None
