"""An alarm: a state with a key, as ISA-18.2 knows it.

An `Alarm` stores facts (is the condition there, has a person acknowledged, is it latched …); its state is
derived from them. Alarms never change: each transition gives a new one with a higher version.
An alarm's ``id`` is one stay on the board; its ``key`` names the condition for ever.
"""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from devices.readings import Address, Scalar
from rules.explanation import Explanation


class Severity(StrEnum):
    """How bad it is, worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for critical, 4 for info."""
        return _RANKS[self]

    @property
    def needs_acknowledgement(self) -> bool:
        """Critical and high stay on the board until a person has seen them (contract, section 3)."""
        return self in (Severity.CRITICAL, Severity.HIGH)


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class AlarmState(StrEnum):
    """ISA-18.2's states."""

    UNACKED = "unacked"
    ACKED = "acked"
    RTN_UNACKED = "rtn_unacked"
    LATCHED_UNACKED = "latched_unacked"
    LATCHED_ACKED = "latched_acked"
    SHELVED = "shelved"
    SUPPRESSED = "suppressed"
    OUT_OF_SERVICE = "out_of_service"
    NORMAL = "normal"


_QUIET = frozenset({AlarmState.SHELVED, AlarmState.SUPPRESSED, AlarmState.OUT_OF_SERVICE})

STATE_CODES = {state: code for code, state in enumerate(AlarmState)}
"""Numbers for stores that keep no text; the order is fixed for ever."""


class Transition(StrEnum):
    """What happened to an alarm."""

    RAISED = "raised"
    ESCALATED = "escalated"
    """Its severity rose, because its condition went on; whoever had acknowledged it must do so again."""
    RERAISED = "reraised"
    """The condition came back, or the button was pressed again, while the alarm was on the board."""
    CLEARED = "cleared"
    ACKED = "acked"
    CLOSED = "closed"
    """A person took it off the board (ISA-18.2: reset)."""
    CHANGED = "changed"
    """A person or a rule said something about it that is not one of the above, e.g. a cancelled press."""
    CORRECTED = "corrected"
    """Its times were provisional and are right now; nothing has happened to it."""


class Superseded(StrEnum):
    """What has become of the rule of an alarm that stands."""

    CHANGED = "changed"
    REMOVED = "removed"


class Outcome(StrEnum):
    """How an incident ended that an alarm is about (`rules.tracks`)."""

    LEFT = "left"
    FORCED = "forced"
    """It rode along although the door was held."""
    RELEASED = "released"
    """Staff let it go on."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm with its facts. Times are Unix milliseconds."""

    id: str
    key: str
    rule: str
    severity: Severity
    site: str
    node: str
    kind: str
    device: str
    place: dict[str, str]
    text: dict[str, str]
    values: dict[str, Scalar]
    source_time: int
    received_at: int
    first_raised_at: int
    raised_at: int
    track: str | None = None
    version: int = 1
    occurrences: int = 1
    active: bool = True
    """The condition is there."""
    ack_required: bool = True
    latched: bool = False
    """Stays after its condition has gone, until a person closes it."""
    closable: bool = False
    """Nothing but a person can end it (an emergency press, a rule that is no more)."""
    closed: bool = False
    cleared_at: int | None = None
    acked_at: int | None = None
    acked_by: str | None = None
    comment: str | None = None
    cancelled_at: int | None = None
    """The person who pressed has pressed cancel; nobody has closed it yet."""
    shelved_until: int | None = None
    suppressed_by: str | None = None
    """Key of the alarm that is its cause: nobody is told of it by itself while that stands."""
    out_of_service: bool = False
    late: bool = False
    drill: bool = False
    durable: bool = True
    provisional: bool = False
    """The gateway did not know the time: its times are corrected later."""
    why: Explanation | None = None
    """What decided it; not on the wire. None: written before there were explanations."""
    superseded: Superseded | None = None
    """Its rule is another by now, or gone: it stands until a person closes it, or the new rule raises it again."""
    outcome: Outcome | None = None
    folded_into: str | None = None
    """Id of the alarm that tells of it together with others."""
    members: tuple[str, ...] | None = None
    """Keys of the alarms that are folded into this one; None: it is no fold."""
    chattering: bool = False
    """It came and went several times within a minute when it was last raised."""
    closed_at: int | None = None
    """When a person closed it; None: nobody has, or it was stored before that was kept."""
    closed_by: str | None = None
    close_comment: str | None = None

    @property
    def address(self) -> Address:
        """Of the device that it is about."""
        return Address(f"{self.site}/{self.kind}/{self.device}")

    @property
    def condition(self) -> str:
        """Under which its device has what raised it: rule id, or ``rule/track``."""
        return self.rule if self.track is None else f"{self.rule}/{self.track}"

    @property
    def state(self) -> AlarmState:
        """Derived from the facts; `NORMAL` means that it leaves the board."""
        if self.closed:
            return AlarmState.NORMAL
        acked = self.acked_at is not None
        if self.active or self.latched:
            if self.out_of_service:
                return AlarmState.OUT_OF_SERVICE
            if self.severity is not Severity.CRITICAL:  # critical stands by itself, whatever else stands
                if self.suppressed_by is not None or self.folded_into is not None:
                    return AlarmState.SUPPRESSED
                if self.shelved_until is not None:
                    return AlarmState.SHELVED
        if self.active:
            return AlarmState.ACKED if acked else AlarmState.UNACKED
        if self.latched:
            return AlarmState.LATCHED_ACKED if acked else AlarmState.LATCHED_UNACKED
        if self.ack_required and not acked:
            return AlarmState.RTN_UNACKED
        return AlarmState.NORMAL

    @property
    def on_board(self) -> bool:
        """Whether it stands."""
        return self.state is not AlarmState.NORMAL

    @property
    def annunciated(self) -> bool:
        """Whether people are to be told of it by itself; false while it is shelved, suppressed or folded away."""
        return self.state not in _QUIET

    @property
    def urgency(self) -> tuple[int, int, str]:
        """By what people's lists are sorted: the most severe first, of these the newest."""
        return self.severity.rank, -self.raised_at, self.id

    def wire(self) -> bytes:
        """The alarm as JSON, as the contract's section 3 shows it."""
        told = WireAlarm if self.closed_at is None else WireClosed
        facts = {name: getattr(self, name) for name in told.__struct_fields__}
        moments = {name: rfc3339(facts[name]) for name in (*MOMENTS, "closed_at") if name in facts}
        return _JSON.encode(told(**facts | moments))


class WireAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm on the wire: the one list of what is told of it, in its order.

    What came later has a default, so that what an older gateway left on the broker can be read.
    """

    id: str
    key: str
    rule: str
    severity: Severity
    state: AlarmState
    version: int
    occurrences: int
    site: str
    node: str
    kind: str
    device: str
    track: str | None = None
    place: dict[str, str]
    text: dict[str, str]
    values: dict[str, Scalar]
    source_time: int
    received_at: int
    first_raised_at: str
    raised_at: str
    cleared_at: str | None = None
    acked_at: str | None = None
    acked_by: str | None = None
    comment: str | None = None
    cancelled_at: str | None = None
    late: bool = False
    drill: bool = False
    durable: bool = True
    provisional: bool = False
    superseded: Superseded | None = None
    outcome: Outcome | None = None
    annunciated: bool = True
    shelved_until: str | None = None
    suppressed_by: str | None = None
    folded_into: str | None = None
    members: tuple[str, ...] | None = None
    chattering: bool = False


class WireClosed(WireAlarm, frozen=True, kw_only=True):
    """The last message of an alarm that a person has closed: with who it was."""

    closed_at: str | None = None
    closed_by: str | None = None
    close_comment: str | None = None


MOMENTS = ("first_raised_at", "raised_at", "cleared_at", "acked_at", "cancelled_at", "shelved_until")
"""Unix ms in an `Alarm`, RFC 3339 on the wire."""

_JSON = msgspec.json.Encoder()


def alarm_key(rule: str, address: Address, track: str | None = None) -> str:
    """The name of a condition for ever: rule and address, and the track where a rule is per track."""
    return f"{rule}:{address}" if track is None else f"{rule}:{address}/{track}"


def rfc3339(at_ms: int | None) -> str | None:
    """Unix ms as RFC 3339 in UTC with milliseconds."""
    if at_ms is None:
        return None
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


class AlarmChange(msgspec.Struct, frozen=True):
    """A transition and the alarm after it."""

    transition: Transition
    alarm: Alarm
    at: int
    """Unix ms; of a delay that ran out, the moment it ran out."""
