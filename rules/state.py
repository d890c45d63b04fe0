"""What the engine remembers: one mutable value, the left side of the fold.

It holds no clock and no closure, so it can be written to a snapshot and read back; the heap of deadlines is
derived from the rest. Times are Unix milliseconds.
"""

from array import array
from dataclasses import dataclass, field
from typing import Any

import msgspec

from devices.readings import Address, Flag, Scalar
from rules.alarms import Alarm, Outcome
from rules.standing import Marked, Standing

RateMark = tuple[float, int, int]
"""What a rate of change was last measured from: the value, its source time, its arrival."""


NEVER = 2**62
"""Later than any moment (Unix ms)."""


class Clock(msgspec.Struct, array_like=True):
    """A device's own time, as of its newest message (`rules.moments`)."""

    moment: int
    """Unix ms, the device's."""
    at: int
    """Its arrival (Unix ms)."""
    unsure: bool = False
    """The last message may have waited, and nobody knows how long: its moment is a guess."""
    told: int = 0
    """The last time that it gave and that was believed (Unix ms)."""
    newest: int = 0
    """The newest that it gave with telemetry, and its arrival."""
    newest_at: int = 0
    newest_event: int = 0
    """The same of events: the two come in sessions of their own, and overtake each other."""
    newest_event_at: int = 0
    told_at: int = 0
    """Arrival of the message that gave ``told``."""


class Lull(msgspec.Struct, array_like=True):
    """Between which moments of a device's time nothing that grows crosses a bound (`rules.watches`)."""

    begin: int
    """Unix ms, the device's; the first at which it was so."""
    end: int
    """The first at which it is no longer."""
    ahead: int
    """The device's time less the gateway's (ms) for which the deadlines were found: later, they are early enough."""
    bounds: list[Scalar | None]
    """The points that bounds follow from, while they are the same."""

    @property
    def crossed(self) -> bool:
        """Whether something has lasted for long enough to cross a bound."""
        return self.begin > -NEVER


class Ongoing(msgspec.Struct, array_like=True):
    """A rule's condition that is not idle for one device (or one track of it)."""

    rule: str
    track: str | None = None
    due: int | None = None
    """When the on-delay runs out; None once the alarm was raised."""
    fields: dict[str, Scalar] | None = None
    """The event that it rests on, for an event rule."""
    since: int | None = None
    """When it began, by the device's clock; None where a message that had waited did not tell."""
    wait: int = 0
    """For how many ms more than its on-delay hours or a cooldown have kept it from being raised."""
    escalates: int | None = None
    """When the severity of its alarm rises next."""
    ends: int | None = None
    """When its alarm clears: what ends it has held for the off-delay, or no such event has come for so long."""
    over_since: int | None = None
    """From when `ends` counts, by the device's clock; None as for `since`."""
    told: bool = False
    """``since`` is a time that the device gave and that was believed."""

    @property
    def condition(self) -> str:
        """Under which its device has it: rule id, or ``rule/track``."""
        return self.rule if self.track is None else f"{self.rule}/{self.track}"


class Incident(msgspec.Struct, array_like=True):
    """What a camera follows, from its first track until it has left (`rules.tracks`). Times are Unix ms."""

    fields: dict[str, Scalar]
    """The last event, as the rules see it."""
    seen: tuple[str, ...] = ()
    """Tracks under which the camera follows it now."""
    floor: int | None = None
    """Where it boarded."""
    closed: bool = False
    """The door has closed since: ``floor`` is fixed."""
    lost: int | None = None
    """Since when it is out of sight."""
    opened: bool = False
    """The door was open then, or has been since."""
    shut: int | None = None
    """When it closed again."""
    eased: bool = False
    outcome: Outcome | None = None
    over: bool = False


class Device(msgspec.Struct, array_like=True):
    """What is known of one device."""

    address: Address
    kind: str
    points: dict[str, Scalar]
    last_seen: int = 0
    """Arrival of its last own message; 0 = never."""
    source_time: int = 0
    online: bool | None = None
    """As the broker last told; None is unknown, never online."""
    flags: int = 0
    ongoing: dict[str, Ongoing] = {}
    """By condition: rule id, or ``rule/track``."""
    rates: dict[str, RateMark] = {}
    limited: dict[str, int] = {}
    """Since when a limited point has been true."""
    changed: bool = True
    """Since the last snapshot."""
    silences: tuple[str, ...] = ()
    """Rules that found it silent since it was last heard; the next message ends them."""
    memory: dict[str, Any] = {}
    """What terms remember, by name; `rules.terms` says of what it is built."""
    armed: dict[str, int] = {}
    """By rule, the earliest deadline at which its condition is looked at without a message."""
    clock: Clock | None = None
    """Its own time."""
    cooling: dict[str, tuple[int, int]] = {}
    """By rule: until when it raises nothing here, and how often it would have since its alarm left the board."""
    shape: tuple[str, ...] = ()
    """What its last message held, told at ``source_time``."""
    told: dict[str, int] = {}
    """Of what that did not hold, when the device told it, by its own clock."""
    past: dict[str, int] = {}
    """Rules whose condition late messages tell to be true, each since when by the device's time; 0 once told."""
    past_at: int = 0
    """Arrival of the last late message."""
    incidents: dict[str, Incident] = {}
    """Under way, by the name of their first track."""
    raises: dict[str, list[int]] = {}
    """By condition: when it last came back, as far as chattering is judged by it."""
    shelved: dict[str, int] = {}
    """Conditions that chatter, and until when their alarms are shelved."""
    marks: dict[str, int] = {}
    """Conditions about this device that others look at: 0 = holds, else when it last held; absent = long ago."""
    lull: Lull | None = None
    """None: not known, look."""
    awaited_since: int = 0
    """Registered and waited for; 0 = not. Of no meaning once it was heard."""

    @property
    def silent(self) -> bool:
        """Nothing was heard of it for longer than a rule allows."""
        return bool(self.silences)


Deadline = tuple[int, str, Address, str]
"""(due, key, device, condition): taken in the order of the first two."""


@dataclass(slots=True)
class State:
    """Everything that the engine knows."""

    devices: dict[Address, Device] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    """The board, by key."""
    keys: dict[str, str] = field(default_factory=dict)
    """Alarm id to key, of alarms on the board."""
    deadlines: list[Deadline] = field(default_factory=list)
    """A heap; an entry that no longer holds is skipped when its time comes."""
    outdated: int = 0
    """How many of them, at most, an earlier look at the same condition has replaced (`rules.watches`)."""
    now: int = 0
    stays: int = 0
    """Stays on the board so far: the ``occurrence`` in an alarm's id."""
    listening_since: int | None = None
    catching_up: bool = False
    """What was said while the gateway was away may not have been heard yet."""
    held: list[Deadline] = field(default_factory=list)
    """Deadlines that came while catching up, to be taken at its end; derived as `deadlines` is."""
    told_late: set[str] = field(default_factory=set)
    """Keys of alarms raised while catching up whose orders wait for its end."""
    waited_at: int = 0
    """Arrival of the last reading that may have waited in the broker; nothing is decided by it."""
    unregistered: int = 0
    refused: int = 0
    """Messages of unregistered devices beyond the limit, not evaluated."""
    tracks_refused: int = 0
    """Tracks that began while a device had too many under way; counted since the start."""
    raises_withheld: int = 0
    """Alarms that a cooldown kept from being raised; counted since the start."""
    provisional_since: int | None = None
    """Since when the gateway has not known the time; None while it does."""
    announced: list[int] = field(default_factory=list)
    """When people were last told of a new alarm by itself, as far as a flood is judged by it."""
    folds_due: dict[str, int] = field(default_factory=dict)
    """Keys of folds whose members have changed, and when that is told."""
    standing: Standing = field(default_factory=Standing)
    """Derived from the alarms, as `deadlines` is."""
    around: Marked = field(default_factory=Marked)
    """Derived from the devices."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The state without its devices, as a snapshot keeps it."""

    now: int
    stays: int
    listening_since: int | None
    refused: int
    alarms: list[Alarm]
    catching_up: bool = False
    told_late: list[str] = []
    provisional_since: int | None = None
    announced: list[int] = []
    folds_due: dict[str, int] = {}


_NUMBERS = 1
"""Extension type of a row of numbers, which windows keep (`rules.functions.folds`): all first bytes, all second …

Neighbours in time are much alike in all but their last bytes; so laid out they take a fifth when compressed.
"""
_BYTES = 8


def _pack(value: object) -> msgspec.msgpack.Ext:
    if isinstance(value, array):
        numbers = value.tobytes()
        return msgspec.msgpack.Ext(_NUMBERS, b"".join(numbers[byte::_BYTES] for byte in range(_BYTES)))
    raise TypeError(f"a term remembers a {type(value).__name__}, which a snapshot cannot hold (rules.terms)")


def _unpack(_code: int, data: memoryview) -> "array[float]":
    numbers, count = bytearray(len(data)), len(data) // _BYTES
    for byte in range(_BYTES):
        numbers[byte::_BYTES] = data[byte * count : (byte + 1) * count]
    return array("d", bytes(numbers))


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_pack)
_DEVICE = msgspec.msgpack.Decoder(Device, ext_hook=_unpack)
_HEADER = msgspec.msgpack.Decoder(Header)


def freeze(state: State) -> tuple[bytes, list[tuple[Address, bytes]]]:
    """The header and every device that changed since the last call, as bytes; forgets what changed."""
    header = Header(
        state.now,
        state.stays,
        state.listening_since,
        state.refused,
        list(state.alarms.values()),
        state.catching_up,
        sorted(state.told_late),
        state.provisional_since,
        state.announced,
        state.folds_due,
    )
    devices = []
    for address, device in state.devices.items():
        if device.changed:
            device.changed = False
            devices.append((address, _ENCODER.encode(device)))
    return _ENCODER.encode(header), devices


def thaw(header: bytes | None, devices: list[tuple[Address, bytes]]) -> State:
    """The state of a snapshot; without one, an empty state. Its deadlines are still to be derived."""
    state = State()
    for address, body in devices:
        device = state.devices[address] = _DEVICE.decode(body)
        state.unregistered += bool(device.flags & Flag.UNREGISTERED)
    if header is not None:
        head = _HEADER.decode(header)
        state.now, state.stays, state.listening_since = head.now, head.stays, head.listening_since
        state.refused = head.refused
        state.catching_up, state.told_late = head.catching_up, set(head.told_late)
        state.provisional_since = head.provisional_since
        state.announced, state.folds_due = list(head.announced), dict(head.folds_due)
        state.alarms = {alarm.key: alarm for alarm in head.alarms}
        state.keys = {alarm.id: alarm.key for alarm in head.alarms}
    return state
