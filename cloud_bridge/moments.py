"""Times that do not collide.

Cloud stores keep one value per series and millisecond: a second point at the same moment replaces the
first. Where each point is an occurrence of its own (alarm transitions, events, gaps) the later one is moved
to the next free millisecond, at most a second; beyond that it is allowed to replace.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MOVED_AT_MOST_MS: Final = 999


class Moments:
    """The moments that were taken lately, the newest ``limit`` of them.

    The answer depends only on what was asked before: asked the same in the same order, it gives the same.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._next: OrderedDict[tuple[Hashable, int], int] = OrderedDict()
        """Series and moment taken → where to look for a free one."""

    def take(self, series: Hashable, at_ms: int) -> int:
        """The first moment not before ``at_ms`` that no point of ``series`` has taken."""
        moments = self._next
        free = at_ms
        while (after := moments.get((series, free))) is not None:
            free = after
        if free - at_ms > MOVED_AT_MOST_MS:
            return at_ms + MOVED_AT_MOST_MS
        moments[series, free] = moments[series, at_ms] = free + 1
        while len(moments) > self._limit:
            moments.popitem(last=False)
        return free
