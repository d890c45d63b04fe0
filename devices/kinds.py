"""The kinds of device: their points, event fields and commands, with ranges and units.

A kind is data. Adding one means adding an entry to `KINDS` and a rule pack; neither the engine nor the
edge knows any kind by name. Points follow the Zigbee2MQTT vocabulary, chargers that of OCPP 1.6, lift
cameras Frigate's ``new``/``update``/``end`` tracks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(max_length=256)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Celsius = Annotated[float, Meta(ge=-40, le=200)]
Count = Annotated[int, Meta(ge=0)]
LinkQuality = Annotated[int, Meta(ge=0, le=255)]


class ChargePointStatus(StrEnum):
    """OCPP 1.6 StatusNotification ``status``."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EVSE = "SuspendedEVSE"
    SUSPENDED_EV = "SuspendedEV"
    FINISHING = "Finishing"
    RESERVED = "Reserved"
    UNAVAILABLE = "Unavailable"
    FAULTED = "Faulted"


class ChargePointError(StrEnum):
    """OCPP 1.6 StatusNotification ``errorCode``."""

    CONNECTOR_LOCK_FAILURE = "ConnectorLockFailure"
    EV_COMMUNICATION_ERROR = "EVCommunicationError"
    GROUND_FAILURE = "GroundFailure"
    HIGH_TEMPERATURE = "HighTemperature"
    INTERNAL_ERROR = "InternalError"
    LOCAL_LIST_CONFLICT = "LocalListConflict"
    NO_ERROR = "NoError"
    OTHER_ERROR = "OtherError"
    OVER_CURRENT_FAILURE = "OverCurrentFailure"
    OVER_VOLTAGE = "OverVoltage"
    POWER_METER_FAILURE = "PowerMeterFailure"
    POWER_SWITCH_FAILURE = "PowerSwitchFailure"
    READER_FAILURE = "ReaderFailure"
    RESET_FAILURE = "ResetFailure"
    UNDER_VOLTAGE = "UnderVoltage"
    WEAK_SIGNAL = "WeakSignal"


class ChargerTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """One charging port."""

    voltage: Annotated[float, Meta(ge=0, le=500, extra_json_schema={"unit": "V"})] | UnsetType = UNSET
    current: Annotated[float, Meta(ge=0, le=100, extra_json_schema={"unit": "A"})] | UnsetType = UNSET
    power: Annotated[float, Meta(ge=0, le=20_000, extra_json_schema={"unit": "W"})] | UnsetType = UNSET
    energy: Annotated[float, Meta(ge=0, extra_json_schema={"unit": "kWh"})] | UnsetType = UNSET
    temperature: Celsius | UnsetType = UNSET
    leakage: Annotated[float, Meta(ge=0, le=1_000, extra_json_schema={"unit": "mA"})] | UnsetType = UNSET
    status: ChargePointStatus | UnsetType = UNSET
    error: ChargePointError | UnsetType = UNSET
    session: Text | UnsetType = UNSET


class SmokeTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """A smoke sensor; one vocabulary over Matter, Zigbee2MQTT, Tuya and GB/T 26875.3 (domain.md A3)."""

    smoke: bool | UnsetType = UNSET
    density: Annotated[float, Meta(ge=0, le=10, extra_json_schema={"unit": "dB/m"})] | UnsetType = UNSET
    temperature: Celsius | UnsetType = UNSET
    battery: Percent | UnsetType = UNSET
    battery_low: bool | UnsetType = UNSET
    tamper: bool | UnsetType = UNSET
    test: bool | UnsetType = UNSET
    muted: bool | UnsetType = UNSET
    fault: bool | UnsetType = UNSET
    contamination: Literal["normal", "low", "warning", "critical"] | UnsetType = UNSET
    end_of_life: bool | UnsetType = UNSET
    linkquality: LinkQuality | UnsetType = UNSET


class ButtonTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """The alarm button of an elderly resident."""

    battery: Percent | UnsetType = UNSET
    battery_low: bool | UnsetType = UNSET
    linkquality: LinkQuality | UnsetType = UNSET
    worn: bool | UnsetType = UNSET
    activity: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    """Motions counted since the last message."""


class ButtonEvent(Struct, frozen=True, forbid_unknown_fields=True):
    """A press."""

    action: Literal["emergency", "cancel", "test", "check_in"]


class ElevatorTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """The camera in a lift car and the contacts beside it."""

    door: Literal["open", "closed"] | UnsetType = UNSET
    floor: Annotated[int, Meta(ge=-20, le=200)] | UnsetType = UNSET
    blocking: bool | UnsetType = UNSET
    """The door is being held."""
    fire_recall: bool | UnsetType = UNSET
    stream: Literal["ok", "lost"] | UnsetType = UNSET


class ElevatorEvent(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that the camera follows through the car."""

    type: Literal["new", "update", "end"]
    track: Annotated[str, Meta(min_length=1, max_length=64)]
    label: Literal["ebike", "bicycle", "stroller", "wheelchair", "person"] | UnsetType = UNSET
    score: Ratio | UnsetType = UNSET


class SounderTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """A siren or a broadcast speaker."""

    sounding: bool | UnsetType = UNSET
    fault: bool | UnsetType = UNSET


class CommandResult(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device says on ``command/result``."""

    command_id: Annotated[str, Meta(min_length=1, max_length=64)]
    status: Literal["done", "rejected", "failed"]
    detail: str | UnsetType = UNSET


class GatewayTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """What the gateway knows of itself; never heard on the wire (``gateway`` is a reserved word there).

    Counts are since the start of the node.
    """

    uptime: Count | UnsetType = UNSET
    """Seconds."""
    received: Count | UnsetType = UNSET
    rejected: Count | UnsetType = UNSET
    duplicates: Count | UnsetType = UNSET
    devices: Count | UnsetType = UNSET
    alarms: Count | UnsetType = UNSET
    """Standing."""
    cloud_behind: Count | UnsetType = UNSET
    """Readings and alarm changes not yet stored in the cloud."""
    unregistered_refused: Count | UnsetType = UNSET
    """Messages of unregistered devices beyond the limit, not evaluated."""

    # The reasons of health (docs/health.md), each true while it is so.
    broker_away: bool | UnsetType = UNSET
    broker_dropped: bool | UnsetType = UNSET
    broker_limits: bool | UnsetType = UNSET
    session_lost: bool | UnsetType = UNSET
    cannot_decide: bool | UnsetType = UNSET
    store_failing: bool | UnsetType = UNSET
    store_reduced: bool | UnsetType = UNSET
    store_damaged: bool | UnsetType = UNSET
    cannot_publish: bool | UnsetType = UNSET
    clock_untrusted: bool | UnsetType = UNSET
    device_throttled: bool | UnsetType = UNSET
    web_down: bool | UnsetType = UNSET
    bridge_down: bool | UnsetType = UNSET
    cloud_away: bool | UnsetType = UNSET
    cloud_refuses: bool | UnsetType = UNSET
    history_failing: bool | UnsetType = UNSET
    unregistered_limit: bool | UnsetType = UNSET
    tracks_refused: bool | UnsetType = UNSET


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
class Command:
    """An order that devices of a kind obey."""

    args: Mapping[str, type] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest value of a numeric argument."""
    only_if_false: str | None = None
    """A point that must be known to be false, or the order is not given."""
    automatic: bool = True
    """False: never the action of a rule, only a person's order."""
    undoes: str | None = None
    """A command; refused while an alarm is active for which that one was ordered."""
    taken_back_by: str | None = None
    """A command: after a person gave it, this one is not ordered again for the same incident."""


@dataclass(frozen=True, slots=True)
class Session:
    """How a session shows in the points of a kind, and its figures (`rules.functions.courses`; domain.md C2).

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
    door is eased by ``release``, and after the door has closed before it has left (domain.md G: object end + 3 s).
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


_SOUNDER_COMMANDS = {
    "sound": Command(args={"tone": str, "text": str, "seconds": int}),
    "silence": Command(),
}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                "charger",
                ChargerTelemetry,
                commands={
                    "cut_power": Command(),
                    "restore_power": Command(automatic=False, undoes="cut_power"),
                },
                rates={"temperature_rate": Rate("temperature")},
                session=Session(
                    under_way=frozenset({"Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}),
                    free=frozenset({"Available", "Preparing", "Reserved"}),
                    cut=frozenset({"SuspendedEVSE", "Unavailable", "Faulted"}),
                    sated=frozenset({"SuspendedEV"}),
                    done=frozenset({"Finishing"}),
                ),
                derived={
                    name: f"{name}()"
                    for name in (
                        "session_age",
                        "session_energy",
                        "session_flat_for",
                        "session_full_for",
                        "session_peak",
                        "session_phase",
                        "session_restarted",
                        "session_rising",
                        "session_warming",
                        "usual_session_energy",
                    )
                },
            ),
            Kind(
                "smoke",
                SmokeTelemetry,
                commands={"mute": Command(automatic=False), "self_test": Command(automatic=False)},
                limited={"test": Limited(limit_s=600)},
                safety=True,
            ),
            Kind(
                "button",
                ButtonTelemetry,
                event=ButtonEvent,
                commands={"confirm": Command(), "prompt": Command(args={"text": str})},
                activity=Activity("activity", "worn", events=frozenset({"action"})),
                derived={"inactive_for": "inactive_for()", "usual_gap": "usual_gap()"},
                private=frozenset({"activity", "worn"}),
            ),
            Kind(
                "elevator",
                ElevatorTelemetry,
                event=ElevatorEvent,
                commands={
                    "hold_door": Command(
                        args={"seconds": int, "prompt": str},
                        limits={"seconds": 120},
                        only_if_false="fire_recall",
                        taken_back_by="release_door",
                    ),
                    "release_door": Command(),
                },
                following=Following(
                    "ebike",
                    score=0.6,
                    point="ebike",
                    door="door",
                    closed="closed",
                    floor="floor",
                    release="release_door",
                ),
            ),
            Kind("siren", SounderTelemetry, commands=_SOUNDER_COMMANDS),
            Kind("broadcast", SounderTelemetry, commands=_SOUNDER_COMMANDS),
            Kind("gateway", GatewayTelemetry, on_wire=False),
        )
    }
)
"""Every kind by name. `gateway` is the gateway's own, never a topic."""
