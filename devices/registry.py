"""The registry: which devices there are, where they stand, to whom they belong (contract, section 7).

Read once at the start from a file that a person wrote; every mistake in it is found in one go. A device's
id goes into the cloud, its room and household never do: an id that gives the room away is refused.
"""

import re
from collections.abc import Iterable, KeysView, Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from devices.documents import Tree, line_of
from devices.faults import ConfigurationError, Fault, nearest
from devices.kinds import KINDS
from devices.readings import Address, address_of
from devices.topics import LEVEL

_NAME = re.compile(r"(?!\s)[^\x00-\x1f\x7f]{1,64}(?<!\s)\Z")
_ANY = re.compile("")
_TRUTH = re.compile(r"(?:true|false)\Z")
_FLOOR = re.compile(r"(?P<letters>[A-Za-z]*)(?P<number>-?\d{1,3})(?P<tail>[A-Za-z]?)\Z")
_RANGE = re.compile(r"(?P<letters>[A-Za-z]*)(?P<first>-?\d{1,3})\s*-\s*(?P=letters)(?P<last>-?\d{1,3})\Z")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_SEPARATORS = re.compile(r"[\W_]+")

_TOP_KEYS = frozenset({"places", "devices"})
_PLACE_KEYS = frozenset({"building", "unit", "floors", "kind"})
_WHERE_KEYS = ("building", "unit", "floor", "room")
_DEVICE_KEYS = frozenset(
    {"id", "kind", "group", "household", "installed", "buffers", "mounted", *_WHERE_KEYS}
)

TELLING_ROOM = 3
"""Characters; a shorter room number is in an id by chance, not by intent."""


@dataclass(frozen=True, slots=True)
class Place:
    """A building, or one unit (staircase) of it."""

    building: str
    unit: str | None = None
    floors: frozenset[str] | None = None
    """As devices write them; None: any floor."""
    kind: str | None = None
    """What it is, e.g. ``charging_shed``; None for a house."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the file declares it."""

    address: Address
    id: str
    kind: str
    place: dict[str, str] = field(default_factory=dict)
    """Those of building, unit, floor and room that are known, for an alarm's ``place``. Not to be changed."""
    group: str | None = None
    """Devices that fail together, e.g. those of one shed."""
    household: str | None = None
    installed: date | None = None
    buffers: bool = False
    """It stores while offline and sends later: its old times are believed."""
    mounted: bool = True
    """False: nobody waits for it yet."""


@dataclass(frozen=True, slots=True)
class Registry:
    """All that the file declares."""

    places: tuple[Place, ...] = ()
    devices: Mapping[Address, Device] = field(default_factory=lambda: MappingProxyType({}))
    groups: Mapping[str, tuple[Address, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The members of each group, in file order."""

    @property
    def addresses(self) -> KeysView[Address]:
        """Of all devices, in file order."""
        return self.devices.keys()

    @property
    def mounted(self) -> Iterable[Address]:
        """Of all devices that should be heard."""
        return (address for address, device in self.devices.items() if device.mounted)

    def device(self, address: Address) -> Device | None:
        """The device at an address; None for one that is not registered."""
        return self.devices.get(address)


def parse_registry(tree: Tree, file: str, site: str) -> Registry:
    """Check a registry document and make a `Registry` of it. ``site`` completes the addresses.

    Raises `ConfigurationError` with every fault in the file.
    """
    faults: list[Fault] = []
    top = _Entry(tree if tree is not None else {}, "", file, faults)
    top.known(_TOP_KEYS)
    places = _places(top.entries("places"))
    devices = _devices(top.entries("devices"), _Map(places), site)
    if faults:
        raise ConfigurationError(faults)
    groups: dict[str, list[Address]] = {}
    for device in devices.values():
        if device.group is not None:
            groups.setdefault(device.group, []).append(device.address)
    frozen = {name: tuple(members) for name, members in groups.items()}
    return Registry(tuple(places), MappingProxyType(devices), MappingProxyType(frozen))


def parse_floors(text: str) -> frozenset[str] | None:
    """The floors of ``1-33``, ``B2-B1,1-33`` or ``-2--1, 1-6, 6A``; None if it cannot be read."""
    floors: set[str] = set()
    for part in text.split(","):
        item = part.strip()
        if found := _RANGE.match(item):
            first, last = sorted((int(found["first"]), int(found["last"])))
            floors.update(f"{found['letters']}{number}" for number in range(first, last + 1))
        elif _FLOOR.match(item):
            floors.add(item)
        else:
            return None
    return frozenset(floors)


class _Entry:
    """One mapping of the file; what is wrong with it goes into ``faults``."""

    __slots__ = ("_broken", "_faults", "_fields", "_file", "_line", "_path")

    def __init__(
        self, tree: Tree, path: str, file: str, faults: list[Fault], line: int | None = None
    ) -> None:
        self._path = path
        self._file = file
        self._faults = faults
        self._line = line
        self._fields: dict[str, Tree] = tree if isinstance(tree, dict) else {}
        self._broken = not isinstance(tree, dict)
        if self._broken:
            expected = "must hold `places` and `devices`" if not path else "must be a mapping: {…}"
            self.fault(None, expected, tree if isinstance(tree, str) else None)

    def known(self, keys: frozenset[str]) -> None:
        """Refuse every other key."""
        for key in self._fields:
            if key not in keys:
                self.fault(key, f"unknown key; known are {', '.join(sorted(keys))}", None, nearest(key, keys))

    def has(self, key: str) -> bool:
        """Whether anything is said under a key, right or wrong."""
        return self._fields.get(key) is not None

    def entries(self, key: str) -> list["_Entry"]:
        """The mappings in a list."""
        listed = self._fields.get(key)
        if not isinstance(listed, list):
            if listed is not None:
                self.fault(key, "must be a list, each entry behind a dash")
            return []
        return [
            _Entry(item, f"{key}[{index}]", self._file, self._faults, line_of(listed, index))
            for index, item in enumerate(listed)
        ]

    def text(self, key: str, pattern: re.Pattern[str], shape: str, *, required: bool = False) -> str | None:
        """A text that matches; None if it is absent or wrong."""
        value = self._fields.get(key)
        if value is None:
            if required and not self._broken:
                self.fault(key, "is missing")
            return None
        if not isinstance(value, str):
            self.fault(key, "must be a text")
            return None
        if not pattern.match(value):
            self.fault(key, f"must be {shape}", value)
            return None
        return value

    def fault(self, key: str | None, reason: str, value: str | None = None, near: str | None = None) -> None:
        """Note what is wrong with a key, or with the whole entry."""
        path = ".".join(filter(None, (self._path, key)))
        line = line_of(self._fields, key) if key is not None else None
        self._faults.append(Fault(self._file, path, reason, value, near, line or self._line))

    @property
    def path(self) -> str:
        return self._path


_LEVEL_SHAPE = "1 to 64 of A–Z a–z 0–9 _ . -"
_NAME_SHAPE = "1 to 64 characters without a blank at either end"


def _places(entries: Iterable[_Entry]) -> list[Place]:
    places: list[Place] = []
    seen: dict[tuple[str, str | None], str] = {}
    for entry in entries:
        entry.known(_PLACE_KEYS)
        building = entry.text("building", _NAME, _NAME_SHAPE, required=True)
        unit = entry.text("unit", _NAME, _NAME_SHAPE)
        kind = entry.text("kind", LEVEL, _LEVEL_SHAPE)
        written = entry.text("floors", _ANY, "a text")
        floors = None
        if written is not None and (floors := parse_floors(written)) is None:
            entry.fault("floors", "cannot be read; write 1-33 or B2-B1,1-33", written)
        if building is None:
            continue
        if (first := seen.setdefault((building, unit), entry.path)) != entry.path:
            entry.fault("building", f"this place stands twice, first at {first}", building)
        places.append(Place(building, unit, floors, kind))
    return places


class _Map:
    """The declared places, as devices refer to them."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._units: dict[str, dict[str | None, Place]] = {}
        for place in places:
            self._units.setdefault(place.building, {})[place.unit] = place

    def check(self, entry: _Entry, where: Mapping[str, str]) -> None:
        """Refuse a building, unit or floor that no place declares."""
        building, unit, floor = where.get("building"), where.get("unit"), where.get("floor")
        if building is None:
            for key in where if not entry.has("building") else ():
                entry.fault(key, "says nothing without a building", where[key])
            return
        units = self._units.get(building)
        if units is None:
            entry.fault("building", "is not among `places`", building, nearest(building, self._units))
            return
        if unit is not None and unit not in units:
            near = nearest(unit, filter(None, units))
            entry.fault("unit", f"building {building} has no such unit in `places`", unit, near)
            return
        place = units.get(unit)
        if floor is not None and place is not None and place.floors is not None and floor not in place.floors:
            entry.fault("floor", "is not among the place's `floors`", floor)


def _devices(entries: Iterable[_Entry], places: _Map, site: str) -> dict[Address, Device]:
    devices: dict[Address, Device] = {}
    first_at: dict[Address, str] = {}
    shared: dict[tuple[str | None, ...], dict[str, str]] = {}
    kinds = frozenset(name for name, kind in KINDS.items() if kind.on_wire)
    for entry in entries:
        entry.known(_DEVICE_KEYS)
        name = entry.text("id", LEVEL, _LEVEL_SHAPE, required=True)
        kind = entry.text("kind", _ANY, "a text", required=True)
        if kind is not None and kind not in kinds:
            entry.fault(
                "kind", f"unknown kind; known are {', '.join(sorted(kinds))}", kind, nearest(kind, kinds)
            )
            kind = None
        read = tuple(entry.text(key, _NAME, _NAME_SHAPE) for key in _WHERE_KEYS)
        where = shared.setdefault(
            read, {k: v for k, v in zip(_WHERE_KEYS, read, strict=True) if v is not None}
        )
        places.check(entry, where)
        group = entry.text("group", LEVEL, _LEVEL_SHAPE)
        household = entry.text("household", LEVEL, _LEVEL_SHAPE)
        installed = _installed(entry)
        buffers = entry.text("buffers", _TRUTH, "true or false") == "true"
        mounted = entry.text("mounted", _TRUTH, "true or false") != "false"
        if name is None:
            continue
        if (room := where.get("room")) is not None and _gives_away(name, room):
            entry.fault("id", f"contains the room number {room}; ids go to the cloud, rooms must not", name)
        if kind is None:
            continue
        address = address_of(site, kind, name)
        if (first := first_at.setdefault(address, entry.path)) != entry.path:
            entry.fault("id", f"this {kind} stands twice, first at {first}", name)
        devices[address] = Device(address, name, kind, where, group, household, installed, buffers, mounted)
    return devices


def _installed(entry: _Entry) -> date | None:
    written = entry.text("installed", _DATE, "a date like 2025-06-01")
    if written is None:
        return None
    try:
        return date.fromisoformat(written)
    except ValueError:
        entry.fault("installed", "is no day of the calendar", written)
        return None


def _gives_away(name: str, room: str) -> bool:
    """Whether a person who reads the id learns the room, however it is punctuated."""
    bare = _SEPARATORS.sub("", room).lower()
    return len(bare) >= TELLING_ROOM and bare in _SEPARATORS.sub("", name).lower()
