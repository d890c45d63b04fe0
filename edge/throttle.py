"""Which telemetry of a device that says far too much is judged, and which is only counted (docs/adr/0012).

Pure policy: no clock, no I/O. Events, status and results never come here, nor does a device within its
allowance: for it a message costs one subtraction. What is left of a babbling device:

- its newest values, at least once a second (`Throttle.turn`), the last value of each point;
- at once, every state of its booleans and texts that is new within that second, up to `STATES_MOST`, so that
  ``smoke`` is never late, and a sensor that flips each millisecond still cannot flood the alarms.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from devices.readings import Address, Reading
from devices.topics import Lane

PER_S: Final = 50
"""Messages a second that a device may go on saying: a tenth of what a whole community of 8,000 says (200 to
500). The fastest real ones, which publish each of nine points for itself once a second, say 9; lifts of a
community at twenty times its normal load say 5."""

BURST: Final = 500
"""And beside that at one go: ten seconds of it."""

BABBLERS_MOST: Final = 256
"""So many at once are throttled. If more say too much, that is the load and no device; then all wait alike."""

STATES_MOST: Final = 16
WINDOW_MS: Final = 1_000
QUIET_MS: Final = 5_000
"""Within its limit for so long, and a device is free again."""

UNMETERED: Final = 1 << 60
"""What is left where messages always count; nobody lives to see its end."""

ROW_MS: Final = 60_000
DRAINED_MS: Final = 2_000
CATCH_UP_MOST_MS: Final = 600_000
"""Nine times what a full queue (deploy/mosquitto.conf) takes to be read."""


@dataclass(slots=True, kw_only=True)
class Meter:
    """What a device may still say before somebody looks at its rate."""

    left: int = BURST
    filled_at: int = 0
    newest: int = 0
    """Source time up to which it has been given its allowance."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages that were acknowledged and neither judged nor journaled. Times are Unix ms of arrival."""

    lane: Lane
    count: int
    from_ms: int
    to_ms: int


@dataclass(slots=True)
class Turn:
    """What has come of a second."""

    judge: list[Reading] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    began: list[Address] = field(default_factory=list)
    ended: list[Address] = field(default_factory=list)


@dataclass(slots=True)
class _Babbler:
    """A device that is throttled, and its present second."""

    lane: Lane
    window_at: int
    loud_at: int
    row_at: int
    heard: int = 0
    kept: Reading | None = None
    seen: set[frozenset[tuple[str, object]]] = field(default_factory=set)
    lost: int = 0
    lost_from: int = 0
    lost_to: int = 0
    told: bool = False

    def window_over(self, now: int) -> bool:
        """Also when the clock was put back."""
        return not 0 <= now - self.window_at < WINDOW_MS

    def next_window(self, now: int) -> None:
        took = max(WINDOW_MS, now - self.window_at)
        if self.heard * 1_000 > PER_S * took or now < self.loud_at:
            self.loud_at = now
        self.heard, self.window_at = 0, now
        self.seen.clear()

    def take(self, reading: Reading, now: int) -> Reading | None:
        """The reading to judge now, if any, with what was kept before it."""
        first = self.window_over(now)
        if first:
            self.next_window(now)
        self.heard += 1
        if self.kept is not None:
            self.lost += 1
            self.lost_from = self.lost_from or now
            self.lost_to = now
            reading = replace(reading, values=self.kept.values | reading.values)
        if first or self._is_news(reading):
            self.kept = None
            self.seen.add(_state(reading))
            return reading
        self.kept = reading
        return None

    def _is_news(self, reading: Reading) -> bool:
        return len(self.seen) < STATES_MOST and _state(reading) not in self.seen

    def newest(self, now: int) -> Reading | None:
        """What was kept; judged as of ``now``, because the engine's time does not run backwards."""
        kept, self.kept = self.kept, None
        if kept is None:
            return None
        self.seen.add(_state(kept))
        return replace(kept, received_at=now)

    def losses(self, now: int, *, last: bool) -> Iterator[Loss]:
        """A row soon after the beginning, which a crash leaves behind, then one a minute, and the rest."""
        if self.lost and (last or now >= self.row_at or now < self.row_at - ROW_MS):
            yield Loss(self.lane, self.lost, self.lost_from, self.lost_to)
            self.lost, self.lost_from, self.row_at = 0, 0, now + ROW_MS


class Throttle:
    """Knows the devices that say too much. ``now`` is Unix ms everywhere."""

    def __init__(self) -> None:
        self._babblers: dict[Address, _Babbler] = {}
        self._connected_at: int | None = None
        self._full_at = 0

    @property
    def babblers(self) -> list[Address]:
        """Who is throttled, longest first."""
        return list(self._babblers)

    def connected(self, now: int) -> None:
        """The broker hands over what has waited for us. Until it has, nobody is judged by it."""
        self._connected_at = self._full_at = now

    def full(self, now: int) -> None:
        """The broker still fills the window that it has for what is not acknowledged."""
        self._full_at = now

    def _catching_up(self, now: int) -> bool:
        if self._connected_at is None:
            return False
        drained = not -DRAINED_MS < now - self._full_at < DRAINED_MS
        if drained or now - self._connected_at > CATCH_UP_MOST_MS:
            self._connected_at = None
        return self._connected_at is not None

    def admit(self, meter: Meter, lane: Lane, reading: Reading, now: int) -> Reading | None:
        """Telemetry of a device whose meter has run out: the reading to judge now, or None."""
        meter.left = 0
        babbler = self._babblers.get(reading.address)
        if babbler is None:
            if self._fill(meter, reading.source_time, now) or len(self._babblers) >= BABBLERS_MOST:
                return reading
            babbler = self._babblers[reading.address] = _Babbler(lane, now - WINDOW_MS, now, now)
        return babbler.take(reading, now)

    def _fill(self, meter: Meter, source_time: int, now: int) -> bool:
        """Give the device what it has earned; whether that is one message at least.

        It earns by the time that has passed here, or by the time that has passed with it: what it has stored
        comes as fast as the network goes, and was not said fast. Its own time counts only forwards.
        """
        passed = max(now - meter.filled_at, source_time - meter.newest)
        if now < meter.filled_at or self._catching_up(now):
            passed = BURST * 1_000
        earned = min(BURST, passed * PER_S // 1_000)
        if earned < 1:
            return False
        meter.left = earned - 1
        meter.filled_at = now
        meter.newest = max(meter.newest, source_time)
        return True

    def turn(self, now: int, *, last: bool = False) -> Turn:
        """To be asked once a second while there are `babblers`; ``last``: nothing may be held back."""
        turn = Turn()
        for address, babbler in list(self._babblers.items()):
            if not babbler.told:
                babbler.told = True
                turn.began.append(address)
            if babbler.window_over(now) or last:
                babbler.next_window(now)
                newest = babbler.newest(now)
                if newest is not None:
                    turn.judge.append(newest)
            over = now - babbler.loud_at >= QUIET_MS
            turn.losses.extend(babbler.losses(now, last=over or last))
            if over:
                del self._babblers[address]
                turn.ended.append(address)
        return turn


def _state(reading: Reading) -> frozenset[tuple[str, object]]:
    return frozenset(
        (name, value) for name, value in reading.values.items() if isinstance(value, (bool, str))
    )
