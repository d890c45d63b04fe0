"""What the control socket can ask about devices: pages of them, one of them, and who was never heard."""

from bisect import bisect_right

import msgspec

from devices.faults import nearest
from devices.readings import Address, parts_of
from devices.registry import Registry
from edge.control import Refused
from edge.node import Node
from rules.state import Device

LIMIT_MOST = 500


class DeviceView(msgspec.Struct, frozen=True):
    """A device as the API shows it."""

    address: str
    kind: str
    device: str
    state: str
    """`normal`, `alarm` or `unknown`."""
    online: bool | None
    last_seen: int | None
    registered: bool
    place: dict[str, str]
    points: dict[str, bool | int | float | str]
    flags: int


class _Page(msgspec.Struct, frozen=True):
    kind: str | None = None
    after: str | None = None
    limit: int = 100


class _One(msgspec.Struct, frozen=True):
    address: str


class DeviceDesk:
    """Answers about the devices of ``node``: those of the ``registry``, and those that were heard."""

    def __init__(self, node: Node, registry: Registry) -> None:
        self._node = node
        self._registry = registry
        self._addresses: list[Address] = []

    async def page(self, line: bytes) -> object:
        """The next so many by address. Raises `Refused`."""
        page = msgspec.json.decode(line, type=_Page)
        if not 1 <= page.limit <= LIMIT_MOST:
            raise Refused("bad_request", f"limit must be 1 to {LIMIT_MOST}")
        addresses = self._sorted_addresses()
        start = bisect_right(addresses, page.after) if page.after is not None else 0
        items: list[DeviceView] = []
        for address in addresses[start:]:
            if page.kind is not None and parts_of(address)[1] != page.kind:
                continue
            if len(items) == page.limit:
                return {"items": items, "next": items[-1].address}
            items.append(self._view(address))
        return {"items": items, "next": None}

    async def one(self, line: bytes) -> object:
        """One. Raises `Refused`."""
        return self._view(self.known(msgspec.json.decode(line, type=_One).address))

    def known(self, told: str) -> Address:
        """The address of a device that is registered or was heard. Raises `Refused`."""
        address = Address(told)
        if address not in self._node.intake.state.devices and self._registry.device(address) is None:
            near = self._nearest(address)
            meant = "" if near is None else f"; did you mean {near.partition('/')[2]}?"
            raise Refused("not_found", f"no device {address}{meant}")
        return address

    def presence(self, address: Address) -> str:
        """Whether it will hear an order: `unheard`, `offline`, `silent` or `heard`."""
        device = self._node.intake.state.devices.get(address)
        if device is None or not device.last_seen:
            return "unheard"
        if device.online is False:
            return "offline"
        return "silent" if device.silent else "heard"

    def silent(self) -> list[Address]:
        """Who should have spoken; the first `LIMIT_MOST` by address."""
        heard = self._node.intake.state.devices
        return sorted(address for address, device in heard.items() if device.silent)[:LIMIT_MOST]

    def unheard(self) -> list[Address]:
        """Who is registered and never spoke; as many."""
        heard = self._node.intake.state.devices
        unheard = (
            address
            for address in self._registry.mounted
            if address not in heard or not heard[address].last_seen
        )
        return sorted(unheard)[:LIMIT_MOST]

    def _nearest(self, told: str) -> str | None:
        """The device that was probably meant: one whose address begins like half of that name."""
        kind, _, name = told.rpartition("/")
        addresses = self._sorted_addresses()
        start = bisect_right(addresses, f"{kind}/{name[: len(name) // 2]}")
        return nearest(told, addresses[start : start + LIMIT_MOST])

    def _sorted_addresses(self) -> list[Address]:
        """Registered and heard devices; sorted anew only when there are more of them."""
        heard = self._node.intake.state.devices
        everything = heard.keys() | self._registry.devices.keys()
        if len(everything) != len(self._addresses):
            self._addresses = sorted(everything)
        return self._addresses

    def _view(self, address: Address) -> DeviceView:
        _, kind, name = parts_of(address)
        entry = self._registry.device(address)
        intake = self._node.intake
        device = intake.state.devices.get(address) or Device(address, kind, {})
        return DeviceView(
            address=address,
            kind=kind,
            device=name,
            state=_state(device),
            online=device.online,
            last_seen=device.last_seen or None,
            registered=entry is not None,
            place=dict(entry.place) if entry is not None else {},
            points=intake.engine.points_of(device),
            flags=device.flags,
        )


def _state(device: Device) -> str:
    """Silence neither ends an alarm nor means normal."""
    conditions = device.ongoing.values()
    if any(ongoing.due is None and ongoing.rule not in device.silences for ongoing in conditions):
        return "alarm"
    if not device.last_seen or device.silent or device.online is False:
        return "unknown"
    return "normal"
