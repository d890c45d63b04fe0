"""A community of simulated devices: who stands where, and all of them moved together.

`community` invents the placements, `registry_tree` writes them as the gateway's registry file wants them,
`Fleet` turns them into devices and moves their common time. Pure: what a fleet says depends on its
placements, its seed and what happens to it, on nothing else.
"""

import heapq
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from devices.readings import Address, Scalar, address_of
from simulators.button import Button
from simulators.charger import Charger
from simulators.device import Device, Happening, Message, Outcome
from simulators.elevator import Elevator
from simulators.line import LINE_FAULTS, Line
from simulators.smoke import Smoke
from simulators.sounder import Broadcast, Siren

MODELS: Mapping[str, type[Device]] = MappingProxyType(
    {model.kind: model for model in (Charger, Smoke, Button, Elevator, Siren, Broadcast)}
)
"""The simulated device of each kind. A new kind is one more."""

COUNTED: Mapping[str, str] = MappingProxyType(
    {
        "chargers": "charger",
        "smoke": "smoke",
        "buttons": "button",
        "elevators": "elevator",
        "sirens": "siren",
        "broadcasts": "broadcast",
    }
)
"""How a person says how many → kind."""

PORTS = 24
"""Charging ports in a shed."""
SHED_SENSORS = 2
UNITS, FLOORS, DOORS = 2, 17, 4
STOREYS = frozenset(str(floor) for floor in range(1, FLOORS + 2))
HOMES = UNITS * FLOORS * DOORS
"""Homes in a building."""
LIFTS = 4
"""Lifts in a building."""
MORNING_S = 9 * 3_600.0


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and where it stands. ``place`` has the registry's words: building, unit, floor, room."""

    id: str
    kind: str
    place: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    group: str | None = None
    household: str | None = None
    buffers: bool = False
    """It stores while offline and sends later."""
    installed: str | None = None


def home(number: int, buildings: int, device: str) -> tuple[dict[str, str], str]:
    """The place and the household of the ``number``-th home; neighbours in number live far apart.

    A home whose room number stands in the device's name gets another one: a name tells nobody's room.
    """
    block, rest = number % buildings, number // buildings
    unit, spread = rest % UNITS, rest // UNITS * 7 % (FLOORS * DOORS)
    floor, door = 2 + spread // DOORS, 1 + spread % DOORS
    room = f"{floor:02d}{door:02d}"
    if room in device:
        room = f"{floor:02d}{door + DOORS:02d}"
    place = {"building": str(block + 1), "unit": str(unit + 1), "floor": str(floor), "room": room}
    return place, f"h-{number + 1:04d}"


def community(counts: Mapping[str, int]) -> list[Placement]:
    """So many devices of each kind, as in life: ports and two smoke sensors a shed, the rest in homes."""
    chargers, smoke, buttons, elevators = (
        counts.get(kind, 0) for kind in ("charger", "smoke", "button", "elevator")
    )
    buildings = max(3, math.ceil(max(smoke, buttons) / HOMES), math.ceil(elevators / LIFTS))
    placed = []
    for index in range(chargers):
        shed = f"shed-{index // PORTS + 1}"
        port = f"shed{index // PORTS + 1}-p{index % PORTS + 1:02d}"
        placed.append(Placement(port, "charger", {"building": shed}, group=shed))
    in_sheds = min(smoke // 2, SHED_SENSORS * math.ceil(chargers / PORTS))
    for index in range(smoke):
        name = f"sm{index + 1:04d}"
        if index < in_sheds:
            shed = f"shed-{index // SHED_SENSORS + 1}"
            placed.append(Placement(name, "smoke", {"building": shed}, group=shed))
        else:
            placed.append(_at_home(name, "smoke", index - in_sheds, buildings))
    placed += [_at_home(f"bt{index + 1:04d}", "button", index, buildings) for index in range(buttons)]
    for index in range(elevators):
        building, unit = index // UNITS % buildings + 1, index % UNITS + 1
        name = f"lift-{building}-{unit}-{'abcdefgh'[index // (UNITS * buildings)]}"
        placed.append(Placement(name, "elevator", {"building": str(building), "unit": str(unit)}))
    for kind, name in (("siren", "siren"), ("broadcast", "bc")):
        for index in range(counts.get(kind, 0)):
            place = {"building": str(index % buildings + 1)}
            placed.append(Placement(f"{name}-{index + 1}", kind, place))
    return placed


def _at_home(name: str, kind: str, number: int, buildings: int) -> Placement:
    place, household = home(number, buildings, name)
    return Placement(name, kind, place, household=household)


def registry_tree(placements: Iterable[Placement]) -> dict[str, list[dict[str, str]]]:
    """The registry file (contract, section 7) in which exactly these devices stand."""
    placements = list(placements)
    tall = {
        (one.place.get("building"), one.place.get("unit"))
        for one in placements
        if one.place.get("floor", "1") not in STOREYS
    }
    places: dict[tuple[str, str], dict[str, str]] = {}
    devices = []
    for placement in placements:
        building, unit = placement.place.get("building", ""), placement.place.get("unit", "")
        if placement.group is not None and building and not unit:
            places[building, ""] = {"building": building, "kind": "charging_shed"}
        elif unit:
            places[building, unit] = {"building": building, "unit": unit}
            if (building, unit) not in tall:
                places[building, unit]["floors"] = f"1-{FLOORS + 1}"
        elif building:
            places.setdefault((building, ""), {"building": building})
        device = {"id": placement.id, "kind": placement.kind, **placement.place}
        if placement.group is not None:
            device["group"] = placement.group
        if placement.household is not None:
            device["household"] = placement.household
        if placement.buffers:
            device["buffers"] = "true"
        if placement.installed is not None:
            device["installed"] = placement.installed
        devices.append(device)
    return {"places": [places[key] for key in sorted(places)], "devices": devices}


@dataclass(frozen=True, slots=True)
class Member:
    """A device of a fleet. ``number`` is its place in the fleet."""

    number: int
    address: Address
    placement: Placement
    device: Device
    line: Line


@dataclass(frozen=True, slots=True)
class Tempo:
    """How a fleet's time passes.

    ``rate`` is the telemetry of the whole fleet in messages per second of the listener's time: the devices'
    usual intervals are stretched or squeezed by one factor; what a device says because something changed
    comes on top. ``speed`` is how many seconds of the devices pass in one of the listener's. ``starts_at_s``
    is in seconds after midnight.
    """

    rate: float | None = None
    speed: float = 1.0
    starts_at_s: float = MORNING_S


USUAL = Tempo()


class Fleet:
    """Devices that share one time."""

    def __init__(
        self,
        placements: Iterable[Placement],
        *,
        site: str = "c1",
        seed: int = 0,
        tempo: Tempo = USUAL,
    ) -> None:
        self.site = site
        self.speed = tempo.speed
        self.now_s = 0.0
        self.members = tuple(
            Member(
                number,
                address,
                placement,
                _model(placement, f"{seed}/{address}", tempo.starts_at_s),
                Line(random.Random(f"{seed}/{address}/line")),
            )
            for number, placement in enumerate(placements)
            for address in (address_of(site, placement.kind, placement.id),)
        )
        self._by_address = {member.address: member for member in self.members}
        self._usual = [member.device.interval_s for member in self.members]
        self._tempo = tempo
        if tempo.rate is not None and self.members:
            self._say_so_much(tempo.rate)
        self._due = [member.device.due_s for member in self.members]
        self._heap = [(due_s, number) for number, due_s in enumerate(self._due)]
        heapq.heapify(self._heap)

    @property
    def due_s(self) -> float:
        """The time at which a device next wants to be advanced."""
        while self._heap and self._heap[0][0] != self._due[self._heap[0][1]]:
            heapq.heappop(self._heap)  # it has been put in anew with another time
        return self._heap[0][0] if self._heap else math.inf

    def member(self, address: Address) -> Member:
        """The device at an address; `KeyError` if there is none."""
        return self._by_address[address]

    def advance_to(self, now_s: float) -> Iterator[tuple[Member, Message]]:
        """Move the common time to ``now_s``, giving what is said in the order of its time."""
        while (due_s := self.due_s) <= now_s:
            member = self.members[heapq.heappop(self._heap)[1]]
            self.now_s = max(self.now_s, due_s)
            for message in member.device.advance_to(self.now_s):
                yield member, message
            self._put(member)
        self.now_s = max(self.now_s, now_s)

    def _say_so_much(self, rate: float) -> None:
        usual = self._tempo.speed * sum(1 / interval_s for interval_s in self._usual)
        for member, interval_s in zip(self.members, self._usual, strict=True):
            member.device.set_interval(interval_s * usual / rate)

    def load(self, rate: float | None) -> None:
        """From now on the telemetry of all makes so many messages a second; None: as at the beginning."""
        for member in self.members:
            member.device.run_to(self.now_s)
        if (rate := self._tempo.rate if rate is None else rate) is None:
            for member, interval_s in zip(self.members, self._usual, strict=True):
                member.device.set_interval(interval_s)
        else:
            self._say_so_much(rate)
        for member in self.members:
            self._put(member)

    def happen(self, member: Member, happening: Happening) -> None:
        """Let something happen to a device now; what it says about it comes with the next `advance_to`."""
        member.device.run_to(self.now_s)
        if happening.name in LINE_FAULTS or happening.name == "none":
            member.line.happen(happening.name, happening.parameters, self.now_s)
        if happening.name not in LINE_FAULTS:
            member.device.happen(happening.verb, happening.name, happening.parameters)
        self._put(member)

    def set(self, member: Member, points: Mapping[str, Scalar | None]) -> None:
        """Let points of a device say so from now on."""
        member.device.run_to(self.now_s)
        member.device.set(points)
        self._put(member)

    def unset(self, member: Member, names: Iterable[str] | None) -> None:
        """Let points of a device, or all, be measured again."""
        member.device.run_to(self.now_s)
        member.device.unset(names)
        self._put(member)

    def obey(self, member: Member, command: str, args: Mapping[str, Scalar]) -> Outcome:
        """Give a device a command now."""
        member.device.run_to(self.now_s)
        outcome = member.device.obey(command, args)
        self._put(member)
        return outcome

    def introduce(self, member: Member) -> None:
        """A device has just connected: it says how it is."""
        member.device.run_to(self.now_s)
        member.device.introduce()
        self._put(member)

    def _put(self, member: Member) -> None:
        self._due[member.number] = due_s = member.device.due_s
        heapq.heappush(self._heap, (due_s, member.number))


def _model(placement: Placement, seed: str, starts_at_s: float) -> Device:
    device = MODELS[placement.kind](random.Random(seed), starts_at_s=starts_at_s)
    device.buffers = placement.buffers
    return device
