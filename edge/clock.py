"""The gateway's clock: Unix milliseconds that run with the monotonic clock, whatever is done to the wall clock.

It is the monotonic clock plus an offset. `observe` compares it with the wall clock: a difference of at most a
second is followed, slowly and never backwards; a greater one is a `Step`, which the caller must tell the
engine, because the time runs on from another moment after it.

While the wall clock cannot be right the time is `provisional`: it goes on from the newest moment that is
certain, and the wall clock is not followed. A wall clock cannot be right before this release was made, nor, at
the start, before the journal's last moment: a computer without a clock chip begins in 1970, or where it was when
it was shut down. It is believed once it is past both. Past the release only, it is believed if it was set just
now or the kernel says that a time server keeps it: then the journal's last moment was the wrong one.

The monotonic clock runs on from process to process until the computer is started again. A start that finds the
`Footing` of the one before on record, of the same boot, goes on as if there had been no end: it knows how long it was
off, and a wall clock that was set meanwhile, or has been set back since, is a step like any other.

The time that the computer sleeps does not count: nothing was heard, so no delay ran. It is a `Step` on waking.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge import RELEASED_MS

STEP_MS = 1_000
"""The wall clock was set, rather than slewed."""

SLEW_MS = 100
"""Followed at each observation at most: what is counted in seconds does not feel it."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5
_TIMEX_BYTES = 1_024
"""More than any platform's `struct timex` has."""


@dataclass(frozen=True, slots=True)
class Step:
    """The time has become ``by_ms`` later (or, below zero, earlier). ``at`` is the last moment of the time before."""

    by_ms: int
    at: int
    slept_ms: int = 0
    """How much of it the computer slept through: that time has really passed."""

    @property
    def postpone_ms(self) -> int:
        """What is promised for a moment is due so much later by the new time."""
        return self.by_ms - self.slept_ms


@dataclass(frozen=True, slots=True)
class Footing:
    """What the time stands on until the computer is started again."""

    boot: int
    """Which start of the computer; 0 where it does not say."""
    offset: int
    """Unix ms less those of the monotonic clock."""
    slept_ms: int
    """How long the computer had slept."""


def wall_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Runs evenly while the computer is awake."""
    return time.monotonic_ns() // 1_000_000


def asleep_ms() -> int:
    """How long the computer has slept since it was started; 0 where it does not say."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return 0 if boot is None else (time.clock_gettime_ns(boot) - time.monotonic_ns()) // 1_000_000


def boot() -> int:
    """Another number at each start of the computer; 0 where it does not say."""
    try:
        return int(_BOOT_ID.read_text(encoding="ascii").replace("-", "")[:15], 16)
    except (OSError, ValueError):
        return 0


def synchronised() -> bool:
    """Whether the kernel says that a time server keeps the wall clock right; false where it does not say."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR


class Clock:
    """Milliseconds now. What it is made of can be given by a test."""

    def __init__(
        self,
        wall: Callable[[], int] = wall_ms,
        monotonic: Callable[[], int] = monotonic_ms,
        *,
        asleep: Callable[[], int] = asleep_ms,
        synchronised: Callable[[], bool] = synchronised,
        boot: Callable[[], int] = boot,
        released: int = RELEASED_MS,
    ) -> None:
        self.provisional = False
        """The time is not known."""
        self._wall = wall
        self._monotonic = monotonic
        self._asleep = asleep
        self._synchronised = synchronised
        self._released = released
        self._boot = boot()
        self._offset = self._wall_offset = wall() - monotonic()
        self._slept = asleep()
        self._newest = 0
        self._made_at = monotonic()

    def running_ms(self) -> int:
        """Since this clock was made; no step touches it."""
        return self._monotonic() - self._made_at

    def now_ms(self) -> int:
        """Unix milliseconds. Runs backwards only by a `Step`."""
        now = self._monotonic() + self._offset
        if now < self._newest:
            return self._newest  # slewed: it stands still for a moment
        self._newest = now
        return now

    @property
    def footing(self) -> Footing:
        """For the next start."""
        return Footing(self._boot, self._offset, self._slept)

    def begin(self, floor: int, footing: Footing | None = None, *, provisional: bool = False) -> None:
        """Go on after ``floor``, the newest moment on record, on the ``footing`` on record if it still holds.

        ``provisional``: that moment was so already.
        """
        if footing is not None and self._holds(footing, floor):
            self.provisional = provisional
            self._slept = footing.slept_ms
            self._set(footing.offset)
            self._newest = floor + 1
            return
        least = max(self._released, floor + 1)
        behind = least - self._wall()
        self.provisional = provisional or behind > STEP_MS
        if self.provisional or behind > 0:
            self._set(least - self._monotonic())

    def observe(self) -> Step | None:
        """Compare with the wall clock; the step that was taken now, if one was."""
        wall, before, slept = self._wall(), self.now_ms(), self._asleep()
        offset = wall - self._monotonic()
        by_ms, was_set = offset - self._offset, abs(offset - self._wall_offset) > STEP_MS
        self._wall_offset = offset
        if wall < self._released:
            self.provisional = True
            return None
        if self.provisional:
            if by_ms < 0 and not was_set and not self._synchronised():
                return None
            self.provisional = False
        elif abs(by_ms) <= STEP_MS:
            self._offset += max(-SLEW_MS, min(by_ms, SLEW_MS))
            return None
        nap, self._slept = slept - self._slept, slept
        self._set(offset)
        return Step(by_ms, before, nap if nap > STEP_MS else 0)

    def take_back(self, by_ms: int, *, provisional: bool) -> None:
        """Undo steps that nobody is to know of: what told of them was not kept. `observe` finds them again.

        ``provisional``: it was so before them.
        """
        self.provisional = provisional
        self._set(self._offset - by_ms)
        self._wall_offset = self._offset

    def _holds(self, footing: Footing, floor: int) -> bool:
        same_boot = footing.boot == self._boot != 0
        return same_boot and self._monotonic() + footing.offset > floor - STEP_MS

    def _set(self, offset: int) -> None:
        self._offset, self._newest = offset, 0
