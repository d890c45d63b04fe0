"""What the broker cannot keep for us, found out from what it says: its limits, what it dropped, sessions it lost.

A fold: facts with their time in, `Findings` out, for the node to put on record and to say. What it must know
after a restart are positions of the journal. It promises one gap for each rise of the broker's counter and
for each session that is missing or was set back, and never a gap for the very first contact. Must not: read a clock, do
anything itself.

A broker that ends in good order saves its sessions, and first publishes every will, one with a delay too
(Mosquitto 2.0). So the bulk session has a will with a number of its own and a delay as long as its session: the
farewell, which is there after a good end only. Where the uptime tells that the broker began after a lane was last
heard and the newest farewell is not there, what had not been saved is gone from that lane.

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

UPTIME_ERROR_MS = 1_000
"""The broker may be so much younger than it says: Mosquitto counts the seconds that have begun."""

LEAST_RECEIVE_MAXIMUM = 1_000
"""Half of it is what a commit may hold: 500 messages a commit carry 2,000 a second, the gateway's peak, over a
card whose sync takes 250 ms. At Mosquitto's default of 20 the same card would carry 40."""

OVER_MS = 24 * 3_600_000
"""A day without another loss, and a loss is no longer what is wrong now; its gap stays on record."""

ANY_LANE = "any"
"""The broker's counter does not say whose messages it dropped."""

_COUNTER = "broker.dropped"
_FAREWELL = "broker.farewell"
"""The number of the farewell that the broker holds."""

_SAID = 0
"""It has said it."""

_NO_FAREWELL = -1
"""There is none under MQTT 3.1.1: nothing is concluded."""

_CONNECTED = 0
_DIGITS_MOST = 18


def _session(lane: Lane) -> str:
    """The position that says until when a lane was heard: Unix ms, or 0 as long as the journal goes on. It is 0
    only when it is certain that nothing before the connection was lost.
    """  # noqa: D205
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
            name: positions[name] for name in (_COUNTER, _FAREWELL, *map(_session, Lane)) if name in positions
        }
        """All that must outlive a restart; for the first commit, which takes the journal on without the lanes."""
        for lane in Lane:
            if self.positions.get(_session(lane)) == _CONNECTED:
                self.positions[_session(lane)] = last_now
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
        self._placed = _NO_FAREWELL
        """What the newest connection of the bulk session brings."""
        self._farewells = {self.positions.get(_FAREWELL, _NO_FAREWELL)}
        """Those that tell of a good end since the last look."""
        self._good_end: bool | None = None
        """Whether a farewell was there on this connection; None until it has been looked for."""
        self._doubt: dict[Lane, int] = {}
        """Lanes of which it is open whether they are as old as they were, and until when they were heard."""
        self._alive: dict[Lane, int] = {}
        """Until when it is known that the broker has not begun anew beneath a lane, however silent that is."""
        self._uptime_at: int | None = None
        self._heard_meanwhile: dict[Lane, int] = {}

    def farewell(self, now: int) -> int:
        """The number for the will of the next connection of the bulk session."""
        self._placed = max(now, self._placed + 1)
        self._farewells.add(self._placed)
        return self._placed

    def connected(self, connected: Connected, now: int) -> Findings:
        """A session is up."""
        lane = connected.lane
        heard_until = self.positions.get(_session(lane))
        since = heard_until if heard_until != _CONNECTED else self._last_now
        positions: dict[str, int] = {}
        awaited = self._keeps_sessions and self.positions.get(_FAREWELL, _NO_FAREWELL) != _NO_FAREWELL
        if lane is Lane.BULK:
            positions.update(self._put(_FAREWELL, self._placed))
            self._farewells.add(self._placed)
        else:
            self._good_end = self._uptime_at = None
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
        elif since is not None and self._keeps_sessions:
            gaps.append(Gap(now, lane.value, 0, since, now, GapReason.SESSION_LOST))
            self._lost[lane], self._lost_at = since, now
            said[Code.SESSION_LOST] = (
                "the broker no longer had our session: what came in is lost, how much nobody knows"
                f" ({_since(self._lost)})"
            )
        self._heard_meanwhile.pop(lane, None)
        if connected.session_present and since is not None and awaited:
            positions.update(self._put(_session(lane), self._doubt.setdefault(lane, since)))
        else:
            self._doubt.pop(lane, None)
            positions.update(self._put(_session(lane), _CONNECTED))
        return Findings(tuple(gaps), said, tuple(over), positions)

    def disconnected(self, lane: Lane, heard_at: int) -> Findings:
        """A connection is gone, on which the last message (or the connection itself) came at ``heard_at``."""
        if lane is Lane.SAFETY:
            self._tick_at = None
        if lane in self._doubt:
            self._heard_meanwhile[lane] = heard_at
            return Findings()
        return Findings(positions=self._put(_session(lane), heard_at))

    def looked(self, farewell: bytes | None) -> Findings:
        """What is retained where a farewell would be; once a connection of the safety session."""
        number = int(farewell) if farewell and farewell.isdigit() and len(farewell) <= _DIGITS_MOST else 0
        self._good_end = number > 0 and number in self._farewells
        # One is good for one end: a broker that goes back to what it saved then has it still.
        held = self.positions.get(_FAREWELL, _NO_FAREWELL)
        positions = self._put(_FAREWELL, _SAID) if self._good_end and held == number else {}
        self._farewells = {self.positions.get(_FAREWELL, _NO_FAREWELL)}
        return Findings(positions=positions)

    def _still_there(self, uptime: bytes, now: int) -> Findings:
        """The broker says how old it is: of the lanes in doubt, which it has set back."""
        text = uptime.partition(b" ")[0]
        if self._good_end is None or not text.isdigit() or len(text) > _DIGITS_MOST:
            return Findings()
        if self._uptime_at is not None:
            # Not now: what is read only now may have been said before the broker ended.
            sound = [lane for lane in Lane if self.positions.get(_session(lane)) == _CONNECTED]
            self._alive.update(dict.fromkeys(sound, self._uptime_at))
        self._uptime_at = now
        began = min(now, now - int(text) * 1000 + UPTIME_ERROR_MS)
        set_back = {
            lane: since
            for lane, since in self._doubt.items()
            if began >= max(since, self._alive.get(lane, 0)) and not self._good_end
        }
        positions: dict[str, int] = {}
        for lane in self._doubt:
            positions.update(self._put(_session(lane), self._heard_meanwhile.pop(lane, _CONNECTED)))
        self._doubt.clear()
        if not set_back:
            return Findings(positions=positions)
        self._lost.update(set_back)
        self._lost_at = now
        gaps = (Gap(now, lane.value, 0, at, began, GapReason.SESSION_LOST) for lane, at in set_back.items())
        message = (
            "the broker began anew without having saved: what it had not yet given to us is lost, how much nobody"
            f" knows ({_since(set_back)})"
        )
        return Findings(tuple(gaps), {Code.SESSION_LOST: message}, positions=positions)

    def noticed(self, topic: str, payload: bytes, now: int, *, retained: bool) -> Findings:
        """The broker says something of itself."""
        if topic == UPTIME:
            if self._tick_at is not None:
                # Not now: within the same look at itself the broker tells the counter after the uptime.
                self._known_at, self._tick_at = self._tick_at, now
            # A retained one is of the last look, and so as old as nobody knows.
            return Findings() if retained else self._still_there(payload, now)
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


def _since(lost: Mapping[Lane, int]) -> str:
    return ", ".join(f"{lane.value} since {_time(since)}" for lane, since in lost.items())


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"
