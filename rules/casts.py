"""The cast of an example: the devices that it registers, and who says a line of it."""

from collections.abc import Mapping, Sequence

from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Address, address_of
from devices.registry import Device
from rules.language.entries import Entry
from rules.places import Neighbourhood

_WHERE = ("building", "unit", "floor", "room")
_KEYS = frozenset({"id", "kind", "group", *_WHERE})
CAST_MOST = 200


class Cast:
    """Who there is, for one example."""

    def __init__(self, site: str, kind: str, default: str, devices: Sequence[Device]) -> None:
        self._site = site
        self._kind = kind
        self._devices = {device.id: device for device in devices}
        self._default = next((device.id for device in devices if device.kind == kind), default)
        self.around = Neighbourhood(devices)

    def address(self, name: str | None) -> Address:
        """Of whom a line names; of the device that the example is about where it names nobody."""
        device = self._devices.get(name or self._default)
        if device is None:
            return address_of(self._site, self._kind, name or self._default)
        return device.address

    def place_of(self, address: Address) -> Mapping[str, str]:
        """As the registry would tell."""
        return next((each.place for each in self._devices.values() if each.address == address), {})


def read_devices(example: Entry, kind: Kind, site: str) -> tuple[Device, ...]:
    """``devices`` of an example, as a registry has them; faults go into it."""
    devices: dict[str, Device] = {}
    entries = example.entries("devices")
    if len(entries) > CAST_MOST:
        example.fault("devices", f"{len(entries)} devices, at most {CAST_MOST}")
        return ()
    for entry in entries:
        entry.known(_KEYS, required=["id"])
        name = entry.text("id")
        kind_name = entry.word("kind", [each for each, known in KINDS.items() if known.on_wire]) or kind.name
        place = {key: value for key in _WHERE if (value := entry.text(key)) is not None}
        group = entry.text("group")
        if name is not None:
            if name in devices:
                entry.fault("id", "stands twice", value=name)
            devices[name] = Device(address_of(site, kind_name, name), name, kind_name, place, group)
    return tuple(devices.values())


def kind_of_line(line: Entry, kind: Kind, devices: Sequence[Device]) -> Kind:
    """The kind of the device that says a line, whose ``device`` must be among the example's."""
    name = line.text("device")
    if name is None:
        return kind
    known = {device.id: device for device in devices}
    if name not in known:
        line.fault("device", "is not among the example's `devices`", value=name)
        return kind
    return KINDS[known[name].kind]
