"""What the bridge needs from the gateway: a journal to read and a ledger to keep.

Both are promises that somebody else keeps. They are called from one thread, synchronously, and either may
raise `JournalUnavailableError`: the bridge then waits and asks again.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from rules.alarms import AlarmChange
from rules.decisions import Input


class BridgeError(Exception):
    """Of this package."""


class JournalUnavailableError(BridgeError):
    """The journal cannot be read or the ledger cannot be reached now; try again later."""


class Feed(StrEnum):
    """What is forwarded, each from a position of its own, in this order of precedence."""

    ALARMS = "alarms"
    GAPS = "gaps"
    READINGS = "readings"


class JournalBatch(Protocol):
    """One row of the journal."""

    @property
    def seq(self) -> int:
        """Its number; rises from batch to batch."""

    @property
    def now(self) -> int:
        """When it was committed (Unix ms)."""

    @property
    def inputs(self) -> Sequence[Input]:
        """What was committed with it, in order; only readings are forwarded.

        Asked once: it may be decoded only now, and raise `JournalUnavailableError`.
        """


class GapRow(Protocol):
    """A known loss, as data."""

    @property
    def at(self) -> int:
        """When it was noticed (Unix ms)."""

    @property
    def lane(self) -> str:
        """Where something was lost."""

    @property
    def count(self) -> int:
        """How much."""

    @property
    def from_ms(self) -> int:
        """Beginning of what is missing (Unix ms)."""

    @property
    def to_ms(self) -> int:
        """Its end (Unix ms)."""

    @property
    def reason(self) -> str:
        """Why; one of a few fixed words."""


class Source(Protocol):
    """The journal, read-only. Each answer holds committed rows only, in rising order, none left out.

    Asked twice with the same position it gives the same rows, unless the oldest have been dropped for space
    in between; then it begins with the oldest that is left.
    """

    def readings_after(self, position: int, limit: int) -> Sequence[JournalBatch]:
        """Whole batches with ``seq`` above ``position``: as many as hold no more than ``limit`` inputs
        together, but at least one if there is one.
        """  # noqa: D205 - one sentence

    def alarm_changes_after(self, position: int, limit: int) -> Sequence[tuple[int, AlarmChange]]:
        """At most ``limit`` alarm changes with their journal numbers, those above ``position``."""

    def gaps_after(self, position: int, limit: int) -> Sequence[tuple[int, GapRow]]:
        """At most ``limit`` gaps with their row numbers, those above ``position``."""

    def behind(self, feed: Feed, position: int) -> int:
        """How many readings, alarm changes or gaps lie after ``position``; asked at most once a second."""


class State(StrEnum):
    """How the bridge fares."""

    CURRENT = "current"
    """Everything is stored."""
    DRAINING = "draining"
    """There is more to send."""
    HOLDING = "holding"
    """The rest waits until the gateway knows the time."""
    WAITING = "waiting"
    """The store cannot take it now; it is tried again."""
    FIX_NEEDED = "fix_needed"
    """A person must change something; everything is kept and tried again."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants to know of the bridge. Counts begin with the process."""

    state: State
    behind: Mapping[Feed, int]
    """Rows that are not stored yet."""
    error: str | None = None
    """What stands in the way now, with its remedy."""
    retry_in_s: float | None = None
    stored: int = 0
    """Points."""
    dead_letters: int = 0
    failures: int = 0
    """Writes that failed in an unforeseen way; each is in the log."""


class Ledger(Protocol):
    """Where the bridge's positions and dead letters are kept. Calls take effect in their order."""

    def position(self, feed: Feed) -> int:
        """The last position recorded with `advance`; 0 if none. Asked once a feed, at the start."""

    def advance(self, feed: Feed, position: int) -> None:
        """Everything up to ``position`` is stored or a dead letter. May return before this is on disk: after
        a crash an older position only means that the same points are sent again.
        """  # noqa: D205 - one sentence

    def dead_letter(self, feed: Feed, line: bytes, status: int, words: str) -> None:
        """Keep a line that the store refused with this HTTP status and these words. On disk no later than
        the next `advance` of the feed; after a crash the same line may come again.
        """  # noqa: D205 - one sentence

    def report(self, status: Status) -> None:
        """How the bridge fares: at every change of state and otherwise at most once a second."""
