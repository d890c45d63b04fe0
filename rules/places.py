"""Who stands where: the places of the registry as rules speak of them, and the devices in each.

A place has a name that tells all of it, ``building=3/unit=2/floor=11``, so a room is the same room only within
its floor, unit and building. A device without a level has nobody beside it there. Everything follows from the
registry, which does not change while the gateway runs; a device that is not in it stands nowhere but on the site.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from devices.readings import Address
from devices.registry import Device


class Level(StrEnum):
    """How near, nearest first."""

    ROOM = "room"
    FLOOR = "floor"
    UNIT = "unit"
    GROUP = "group"
    """Devices that fail together, as the registry says."""
    BUILDING = "building"
    SITE = "site"
    """All that one gateway hears."""


Place = str
"""The whole name of a place, its level with it; equal for two devices exactly where they share it."""

_ABOVE: Mapping[Level, tuple[Level, ...]] = {
    Level.BUILDING: (Level.BUILDING,),
    Level.UNIT: (Level.BUILDING, Level.UNIT),
    Level.FLOOR: (Level.BUILDING, Level.UNIT, Level.FLOOR),
    Level.ROOM: (Level.BUILDING, Level.UNIT, Level.FLOOR, Level.ROOM),
}


class Neighbourhood:
    """The devices of a registry by kind and place."""

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self._devices = {device.address: device for device in devices}
        self._by_kind: dict[str, list[Address]] = {}
        for address, device in self._devices.items():
            self._by_kind.setdefault(device.kind, []).append(address)
        self._members: dict[tuple[Level, str], dict[Place, tuple[Address, ...]]] = {}

    def place(self, address: Address, level: Level) -> Place | None:
        """Where the device stands; None where the registry does not tell."""
        if level is Level.SITE:
            return level
        device = self._devices.get(address)
        if device is None:
            return None
        if level is Level.GROUP:
            return None if device.group is None else _name(level, device.group)
        where = device.place
        if level not in where or Level.BUILDING not in where:
            return None
        return "/".join(_name(each, where[each]) for each in _ABOVE[level] if each in where)

    def members(self, place: Place, level: Level, kind: str) -> tuple[Address, ...]:
        """The registered devices of a kind at a place, in the order of their addresses."""
        found = self._members.get((level, kind))
        if found is None:
            found = self._members[level, kind] = self._gather(level, kind)
        return found.get(place, ())

    def told(self, place: Place, level: Level, kind: str) -> dict[str, str]:
        """What an alarm about the place says of it: that in which all its devices of the kind agree."""
        wheres = [self._devices[address].place for address in self.members(place, level, kind)]
        if not wheres:
            return {}
        levels = _ABOVE.get(level, tuple(_ABOVE))
        return {
            str(each): wheres[0][each]
            for each in levels
            if each in wheres[0] and all(where.get(each) == wheres[0][each] for where in wheres)
        }

    def _gather(self, level: Level, kind: str) -> dict[Place, tuple[Address, ...]]:
        found: dict[Place, list[Address]] = {}
        for address in sorted(self._by_kind.get(kind, ())):
            place = self.place(address, level)
            if place is not None:
                found.setdefault(place, []).append(address)
        return {place: tuple(members) for place, members in found.items()}


PlaceOf = Callable[[Address], Mapping[str, str]]
"""The place of a device for an alarm's text: building, unit, floor, room."""


def _name(level: Level, name: str) -> Place:
    return f"{level}={name.replace('%', '%25').replace('/', '%2F')}"


def level_of(place: Place) -> Level:
    """Of a place's name."""
    return Level(place.rpartition("/")[2].partition("=")[0])


def name_of(place: Place) -> str:
    """What the registry calls it."""
    return place.rpartition("=")[2].replace("%2F", "/").replace("%25", "%")
