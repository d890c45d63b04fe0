"""What the cloud store refused for good, as rows of the gap ledger: one a minute and feed, however many there were.

Each refused line is a dead letter, committed before the bridge's position moves past it. The rows are counted from
them: a minute that a crash took away is counted again at the next start, from the dead letters after the last row.
A refused gap makes no gap, or the next one would be refused too, for ever.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from edge.store.records import DeadLetter, GapReason

MERGED_S = 60.0

_GAPS = "gaps"


class Ledger(Protocol):
    """The part of the node that is needed."""

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """Put a known loss on record."""


class Refusals:
    """Counts dead letters into ``ledger``."""

    def __init__(self, ledger: Ledger, earlier: Callable[[], Iterable[DeadLetter]]) -> None:
        self._ledger = ledger
        self._earlier = earlier
        self._counted: dict[str, tuple[int, int, int]] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Count those that a crash left uncounted, then those that come, for ever."""
        for letter in self._earlier():
            self.add(letter)
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
        self._news.set()

    def write(self) -> None:
        """A row for each feed."""
        counted, self._counted = self._counted, {}
        self._news.clear()
        for feed, (count, first, last) in counted.items():
            self._ledger.lost(feed, count, first, last, GapReason.CLOUD_REFUSED)


def _time_of(letter: DeadLetter) -> int:
    """The event's time, which ends the line; or else when it was refused."""
    _, _, stamp = letter.line.rpartition(" ")
    return int(stamp) if stamp.isdecimal() and len(stamp) < len("9" * 16) else letter.at
