"""What can happen in a story, as values: to devices, between them and the gateway, around the gateway, by people.

A `Cause` is one line of a timeline. Who plays it (`simulators.play` in real time, `simulators.rehearsal` in virtual
time) does what its ``act`` says to each of its devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from devices.readings import Channel, Scalar
from simulators.device import Happening


@dataclass(frozen=True, slots=True)
class Setting:
    """These points say so from now on; None: they are not said at all."""

    points: Mapping[str, Scalar | None]


@dataclass(frozen=True, slots=True)
class Unsetting:
    """These points, or all, are measured again."""

    names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Saying:
    """One message, exactly so: fields to which ``ts`` (and ``id``) are added where they are not given, or bytes."""

    channel: Channel
    fields: Mapping[str, Scalar] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ordering:
    """A person gives a device a command: at its panel, or where it is written down by whom, through the gateway."""

    command: str
    args: Mapping[str, Scalar]
    by: str = ""
    comment: str = ""


class Person(StrEnum):
    """What a person does with alarms that stand."""

    ACKNOWLEDGE = "acknowledge"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Handling:
    """A person acknowledges or closes the standing alarms of a rule (a pattern), of the cause's devices or of all."""

    does: Person
    alarm: str
    by: str
    comment: str


class Surrounding(StrEnum):
    """What is around the devices."""

    BROKER = "broker"
    CLOUD = "cloud"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Outage:
    """The broker, the cloud store or the gateway goes away (``back``: comes back).

    ``forgets``: a broker comes back without its sessions, so without what waited in them.
    """

    of: Surrounding
    back: bool = False
    forgets: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """The telemetry of all devices together makes so many messages a second; None: as at the beginning."""

    rate: float | None


Act = Happening | Setting | Unsetting | Saying | Ordering | Handling | Outage | Load


@dataclass(frozen=True, slots=True)
class Cause:
    """Something happens at a moment of the story."""

    at_s: float
    act: Act
    devices: tuple[str, ...] = ()
    """To whom; empty where it is about no device, or about all alarms of a rule."""
    who: str = ""
    """The devices as the file names them."""
    label: str | None = None
    """By which an expectation can count from it."""
    note: str = ""
    """What its author wants readers to know."""
    initial: bool = False
    """It was so before the story began."""
    quiet: bool = False
    """A part of what was told before, not told again."""
