"""When what waited in the broker has been read.

A session that the broker kept hands over its backlog after the connection. It has been read when nothing that
may have waited came for half a second and what did come is on disk (until then the broker holds back the
rest), at the latest ten seconds after both sessions are up. What devices say now, with a time that proves it,
does not prolong it, and retained messages do not either. After a start it also waits for what the broker alone
remembers of the run before (`edge.committing.adoption`): such an alarm must stand before its cause is judged anew.
Without a broker the wait ends, too: alarms must not depend on it.
"""

import asyncio
from collections.abc import Callable

from devices.topics import Lane

QUIET_S = 0.5
READ_MOST_S = 10.0
"""After both sessions are up."""
DEAF_MOST_S = 30.0
"""Without both sessions: as long as a link waits between two attempts at most."""
MOST_S = 45.0
"""In all, however often the connections come and go."""


class Backlog:
    """Calls ``on_read`` once after each `begin`, in the event loop."""

    def __init__(self, on_read: Callable[[], None]) -> None:
        self.reading = False
        self._on_read = on_read
        self._loop = asyncio.get_running_loop()
        self._kept: dict[Lane, bool] = {}
        """Lanes that are up, and whether the broker had kept their session."""
        self._waited_at = 0
        self._unsaved = False
        self._unadopted = False
        self._quiet_at = 0.0
        self._limit_at = 0.0
        self._latest_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on something may wait, also in sessions that are up; again while it is so changes nothing."""
        self._kept = dict.fromkeys(self._kept, True)
        if not self.reading:
            self.reading, self._unsaved = True, False
            self._latest_at = self._loop.time() + MOST_S
            self._wait()

    def connected(self, lane: Lane, *, kept: bool) -> None:
        """A session is up; a new one has no backlog."""
        self._kept[lane] = kept
        if self.reading and len(self._kept) == len(Lane):
            self._wait()

    def disconnected(self, lane: Lane) -> None:
        """A session is down, and the backlog may grow again."""
        if self._kept.pop(lane, None) is not None and self.reading:
            self._wait()

    def heard(self, waited_at_ms: int) -> None:
        """The last reading that may have waited came at ``waited_at_ms``."""
        if waited_at_ms > self._waited_at:
            self._waited_at, self._unsaved = waited_at_ms, True

    def on_disk(self, now_ms: int) -> None:
        """What came up to ``now_ms`` is on disk and acknowledged."""
        if self.reading and self._unsaved and now_ms >= self._waited_at:
            self._unsaved = False
            self._quiet_at = self._loop.time() + QUIET_S
            self._arm()

    def adopting(self) -> None:
        """Alarms of ours that only the broker remembers may come back: until `adopted` it has not been read."""
        self._unadopted = True

    def adopted(self) -> None:
        """They stand again."""
        self._unadopted = False
        if self.reading:
            self._arm()

    def shut(self) -> None:
        """Call nobody any more."""
        self.reading = False
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        now = self._loop.time()
        up = len(self._kept) == len(Lane)
        self._limit_at = min(self._latest_at, now + (READ_MOST_S if up else DEAF_MOST_S))
        self._quiet_at = self._limit_at
        if up:
            self._quiet_at = now + (QUIET_S if any(self._kept.values()) else 0.0)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._end, self._look)

    @property
    def _end(self) -> float:
        return self._limit_at if self._unsaved or self._unadopted else min(self._limit_at, self._quiet_at)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self._end:
            self._arm()
        elif self.reading:
            self.reading = False
            self._on_read()
