"""What can be said of a kind of device, beside its messages, that the engine then does for it.

A trait names points and figures; what it means is computed by the core for any kind that has it, so neither the
engine nor the edge knows a kind by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from devices.kinds.commands import Command


@dataclass(frozen=True, slots=True)
class Rate:
    """A derived point: how fast ``of`` changes, per second, between two readings in event time.

    Unknown until two readings lie at least ``min_s`` and at most ``max_s`` apart.
    """

    of: str
    min_s: float = 0.5
    max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Limited:
    """A boolean point that is believed for at most ``limit_s`` from its first true, then counts as false.

    Never seen counts as false too, so a rule may say ``smoke and not test`` without going blind.
    """

    limit_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """How a session shows in the points of a kind, and its figures (`rules.functions.courses`; docs/figures.md, C2).

    Each port reports as often as it likes, at least every ``gap_s`` where energy is to be summed up from power.
    """

    under_way: frozenset[str]
    """Words of ``status``: somebody is plugged in and it has begun."""
    free: frozenset[str]
    cut: frozenset[str]
    """The socket gives no power: nothing is learnt of the battery."""
    sated: frozenset[str]
    """The battery takes nothing."""
    done: frozenset[str]
    """Over, but still plugged in."""
    power: str = "power"
    energy: str = "energy"
    temperature: str = "temperature"
    status: str = "status"
    id: str = "session"
    least_w: float = 30.0
    """Less is no charging (C2: minimum power check)."""
    unplugged_w: float = 3.0
    unplugged_s: float = 300.0
    """C2: 10 s and 300 s in two products; the longer one, for ports that flicker."""
    float_share: float = 0.2
    float_s: float = 1_800.0
    """C2: so long at most this share of the charging power is full."""
    taper_share: float = 0.8
    """Below this share of its peak it tapers; ours."""
    flat_share: float = 0.15
    """Within this share of a level it is flat; ours: the bulk rises by less than 10 %."""
    restart_share: float = 0.5
    rise_share: float = 0.2
    held_s: float = 60.0
    """So long must power be up before it counts as restarted or rising; ours."""
    warm_up_s: float = 1_200.0
    """A port warms with its load at first; then so long again is measured before a slope is known; ours."""
    heat_half_s: float = 1_800.0
    gap_s: float = 900.0
    """Three heartbeats (C2: every 300 s, no resend)."""
    lost_s: float = 43_200.0
    """Unheard for longer it is another session, unless it has the same name: none lasts so long (C2: 10 h)."""

    @property
    def points(self) -> frozenset[str]:
        """All that tells of a session."""
        return frozenset({self.power, self.energy, self.temperature, self.status, self.id})


@dataclass(frozen=True, slots=True)
class Activity:
    """How a kind tells that a person is alive and well (`rules.functions.activity`); its events are presses."""

    of: str
    """A count of motions since the last message."""
    worn: str
    events: frozenset[str]
    """Fields of an event."""
    heard_s: float = 9_000.0
    """Unheard for longer, nobody knows what was; two hourly reports may be missing."""

    @property
    def points(self) -> frozenset[str]:
        """All that tells of activity."""
        return frozenset({self.of, self.worn}) | self.events


INCIDENT_WORDS = ("none", "aboard", "forced", "released")
"""What the point of a `Following` can be."""


@dataclass(frozen=True, slots=True)
class Following:
    """What a camera follows and what must not ride: the tracks of ``label`` become incidents (`rules.tracks`).

    ``point`` is derived: none, aboard, forced or released. ``grace_s`` is how long it must be out of sight before the
    door is eased by ``release``, and after the door has closed before it has left (docs/figures.md, G: end + 3 s).
    ``unseen_s`` ends what is neither seen nor told of: twice the longest hold, and time for a ride.
    """

    label: str
    score: float
    """Below, the camera is not sure enough."""
    point: str
    door: str
    closed: str
    floor: str
    release: str
    grace_s: float = 3.0
    unseen_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Kind:
    """All that the gateway knows of one kind of device."""

    name: str
    telemetry: type[Struct]
    event: type[Struct] | None = None
    commands: Mapping[str, Command] = field(default_factory=dict)
    rates: Mapping[str, Rate] = field(default_factory=dict)
    limited: Mapping[str, Limited] = field(default_factory=dict)
    following: Following | None = None
    session: Session | None = None
    activity: Activity | None = None
    derived: Mapping[str, str] = field(default_factory=dict)
    """Names for expressions of the rule language (docs/rules.md) that every rule of the kind can use; what they rest
    on is kept only where a rule does."""
    safety: bool = False
    """Telemetry travels in the safety session and is evaluated even for devices beyond the limit."""
    private: frozenset[str] = frozenset()
    """Points that tell of a person's daily life; they leave the building only with consent."""
    on_wire: bool = True
