"""What the cloud store refused for good, as rows of the gap ledger: one a minute and feed, however many there were.

Each refused line is a dead letter, committed before the bridge's position moves past it. How many no row counts yet
is committed with it, as positions of the journal, so the next start goes on where a crash ended the minute; the
times of letters and rows would not tell, as the clock may have been set back between them. A refused gap makes no gap,
or the next one would be refused too, for ever.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from edge.store.records import DeadLetter, GapReason

MERGED_S = 60.0

_GAPS = "gaps"
_FEEDS = ("readings", "alarms")
_FIGURES = ("count", "first", "last")


class Ledger(Protocol):
    """The part of the node that is needed."""

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """Put a known loss on record."""

    def advance(self, feed: str, position: int) -> None:
        """Put a position on record, with the next commit."""


class Refusals:
    """Counts dead letters into ``ledger``; ``positions`` are the journal's, with what an end left uncounted."""

    def __init__(self, ledger: Ledger, positions: Mapping[str, int]) -> None:
        self._ledger = ledger
        self._counted: dict[str, tuple[int, int, int]] = {}
        """By feed: how many, from, to (Unix ms)."""
        self._news = asyncio.Event()
        for feed in _FEEDS:
            count, first, last = (positions.get(_position(feed, figure), 0) for figure in _FIGURES)
            if count:
                self._counted[feed] = count, first, last
                self._news.set()

    async def run(self) -> None:
        """Write rows, for ever."""
        while True:
            await self._news.wait()
            await asyncio.sleep(MERGED_S)
            self.write()

    def add(self, letter: DeadLetter) -> None:
        """One more line was refused."""
        if letter.feed == _GAPS:
            return
        at = _time_of(letter)
        count, first, last = self._counted.get(letter.feed, (0, at, at))
        self._counted[letter.feed] = count + 1, min(first, at), max(last, at)
        self._put(letter.feed, self._counted[letter.feed])
        self._news.set()

    def write(self) -> None:
        """A row for each feed."""
        counted, self._counted = self._counted, {}
        self._news.clear()
        for feed, (count, first, last) in counted.items():
            self._ledger.lost(feed, count, first, last, GapReason.CLOUD_REFUSED)
            self._put(feed, (0, 0, 0))

    def _put(self, feed: str, counted: tuple[int, int, int]) -> None:
        for figure, value in zip(_FIGURES, counted, strict=True):
            self._ledger.advance(_position(feed, figure), value)


def _position(feed: str, figure: str) -> str:
    return f"refused.{feed}.{figure}"


def _time_of(letter: DeadLetter) -> int:
    """The event's time, which ends the line; or else when it was refused."""
    _, _, stamp = letter.line.rpartition(" ")
    return int(stamp) if stamp.isdecimal() and len(stamp) < len("9" * 16) else letter.at
