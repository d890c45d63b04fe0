"""What the broker cannot keep for us, found out from what it says: its limits, what it dropped, a lost session.

A fold: facts with their time in, `Findings` out, for the node to put on record and to say. What it must know
after a restart are positions of the journal. It promises one gap for each rise of the broker's counter and
for each session that is missing, and never a gap for the very first contact. Must not: read a clock, do
anything itself.

The broker's counter is of all its clients and begins anew with the broker. Where it restarted unseen and has
dropped more since than ever before, the count is too low by what the counter had said before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from devices.topics import Lane
from edge.health import Code
from edge.mqtt.link import Connected
from edge.store.records import Gap, GapReason

DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
NOTICES = (UPTIME, DROPPED)
"""What to subscribe to. The uptime changes with every look that the broker takes at itself, so it tells that a
counter of which nothing comes still stands where it stood."""

LEAST_RECEIVE_MAXIMUM = 1_000
"""Half of it is what a commit may hold: 500 messages a commit carry 2,000 a second, the gateway's peak, over a
card whose sync takes 250 ms. At Mosquitto's default of 20 the same card would carry 40."""

OVER_MS = 24 * 3_600_000
"""A day without another loss, and a loss is no longer what is wrong now; its gap stays on record."""

ANY_LANE = "any"
"""The broker's counter does not say whose messages it dropped."""

_COUNTER = "broker.dropped"
_CONNECTED = 0
_DIGITS_MOST = 18


def _session(lane: Lane) -> str:
    """The position that says until when a lane was heard: Unix ms, or 0 as long as the journal goes on."""
    return f"session.{lane.value}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What follows: gaps to record, troubles to say and to take back, positions for the next commit."""

    gaps: tuple[Gap, ...] = ()
    said: Mapping[Code, str] = field(default_factory=dict)
    over: tuple[Code, ...] = ()
    positions: Mapping[str, int] = field(default_factory=dict)


class BrokerWatch:
    """Of one broker. ``positions`` are the journal's, ``last_now`` its newest time (Unix ms).

    ``keeps_sessions`` is false of the embedded broker: that it keeps none is said once and for all by
    `Code.EMBEDDED_BROKER`, and it is away whenever the gateway is.
    """

    def __init__(self, positions: Mapping[str, int], last_now: int, *, keeps_sessions: bool = True) -> None:
        self._keeps_sessions = keeps_sessions
        self.positions = {
            name: positions[name] for name in (_COUNTER, *map(_session, Lane)) if name in positions
        }
        """All that must outlive a restart."""
        self._last_now = last_now
        self._known_at = last_now
        """When the counter stood where we know it to."""
        self._tick_at: int | None = None
        """When the broker last looked at itself; None until it has told the counter on this connection."""
        self._first_contact = False
        self._dropped = 0
        """Since `Code.BROKER_DROPPED` is said."""
        self._dropped_at: int | None = None
        self._lost: dict[Lane, int] = {}
        """Lanes whose session was lost, and since when nothing of them was heard."""
        self._lost_at = 0

    def connected(self, connected: Connected, now: int) -> Findings:
        """A session is up."""
        lane = connected.lane
        heard_until = self.positions.get(_session(lane))
        if lane is Lane.SAFETY:
            self._first_contact = heard_until is None
            if self._first_contact:
                self._known_at = now
        gaps: list[Gap] = []
        said: dict[Code, str] = {}
        over: list[Code] = []
        maximum = connected.broker_maximum
        if maximum is not None and maximum < LEAST_RECEIVE_MAXIMUM:
            said[Code.BROKER_LIMITS] = (
                f"the broker lets {maximum:,} messages wait for an acknowledgement (receive maximum);"
                f" {LEAST_RECEIVE_MAXIMUM:,} or more are needed"
            )
        elif maximum is not None:
            over.append(Code.BROKER_LIMITS)
        if connected.session_present:
            if self._lost.pop(lane, None) is not None and not self._lost:
                over.append(Code.SESSION_LOST)
        elif heard_until is not None and self._keeps_sessions:
            since = heard_until if heard_until != _CONNECTED else self._last_now
            gaps.append(Gap(now, lane.value, 0, since, now, GapReason.SESSION_LOST))
            self._lost[lane], self._lost_at = since, now
            said[Code.SESSION_LOST] = _session_lost(self._lost)
        return Findings(tuple(gaps), said, tuple(over), self._put(_session(lane), _CONNECTED))

    def disconnected(self, lane: Lane, heard_at: int) -> Findings:
        """A connection is gone, on which the last message (or the connection itself) came at ``heard_at``."""
        if lane is Lane.SAFETY:
            self._tick_at = None
        return Findings(positions=self._put(_session(lane), heard_at))

    def noticed(self, topic: str, payload: bytes, now: int, *, retained: bool) -> Findings:
        """The broker says something of itself."""
        if topic == UPTIME and self._tick_at is not None:
            # Not now: within the same look at itself the broker tells the counter after the uptime.
            self._known_at, self._tick_at = self._tick_at, now
        if topic != DROPPED or not payload.isdigit() or len(payload) > _DIGITS_MOST:
            return Findings()
        count, since = int(payload), self._known_at
        self._known_at = self._tick_at = now
        before = self.positions.get(_COUNTER)
        if before is None:
            # What was dropped before the gateway first came here is nothing that it has missed. Mosquitto 2.0
            # forgets the value a minute after its last change; when it then comes, it has changed just now.
            before = count if self._first_contact and retained else 0
        self._first_contact = False
        rise = count - before if count >= before else count
        positions = self._put(_COUNTER, count)
        if not rise:
            return Findings(positions=positions)
        self._dropped, self._dropped_at = self._dropped + rise, now
        return Findings(
            (Gap(now, ANY_LANE, rise, since, now, GapReason.BROKER_DROPPED),),
            {
                Code.BROKER_DROPPED: f"messages that the broker dropped for want of room: {self._dropped:,},"
                f" the last {rise:,} of them between {_time(since)} and {_time(now)}"
            },
            positions=positions,
        )

    def look(self, now: int) -> Findings:
        """Time has passed."""
        over: list[Code] = []
        if self._dropped_at is not None and now - self._dropped_at >= OVER_MS:
            self._dropped, self._dropped_at = 0, None
            over.append(Code.BROKER_DROPPED)
        if self._lost and now - self._lost_at >= OVER_MS:
            self._lost.clear()
            over.append(Code.SESSION_LOST)
        return Findings(over=tuple(over))

    def _put(self, name: str, value: int) -> Mapping[str, int]:
        """A position, for the journal if it is news."""
        if self.positions.get(name) == value:
            return {}
        self.positions[name] = value
        return {name: value}


def _session_lost(lost: Mapping[Lane, int]) -> str:
    lanes = ", ".join(f"{lane.value} since {_time(since)}" for lane, since in lost.items())
    return f"the broker no longer had our session: what came in is lost, how much nobody knows ({lanes})"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"
