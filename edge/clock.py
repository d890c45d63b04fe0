"""The gateway's clock: Unix milliseconds that never run backwards.

It is the monotonic clock plus an offset taken from the wall clock once, so a step of the wall clock moves
no deadline. After a restart it begins no earlier than the last time in the journal.
"""

import time


class Clock:
    """Milliseconds now."""

    def __init__(self) -> None:
        self._offset_ms = (time.time_ns() - time.monotonic_ns()) // 1_000_000

    def not_before(self, floor_ms: int) -> None:
        """Go on from ``floor_ms``, the newest time on record, if the clock is behind it."""
        self._offset_ms += max(0, floor_ms - self.now_ms())

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms
