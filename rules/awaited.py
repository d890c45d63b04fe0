"""Devices that somebody registered and that nobody has heard: waited for, so that their silence can be told, too.

Silence counts from the last message. A device that never said anything has none, so it counts from when it is waited
for: since the gateway first had it in its registry, and only while it listens, as for every other device.
"""

from collections.abc import Iterable

from devices.kinds import KINDS
from devices.readings import Address, parts_of
from rules.decisions import Awaited
from rules.meeting import unheard
from rules.state import Device, State


def changed(state: State, registered: Iterable[Address], at: int) -> Awaited | None:
    """What must be told at ``at`` (Unix ms) so that exactly these are waited for; None if nothing."""
    wanted = dict.fromkeys(registered)
    known = state.devices
    fresh = tuple(each for each in wanted if each not in known or not since(known[each]))
    released = tuple(
        device.address for device in known.values() if device.awaited_since and device.address not in wanted
    )
    return Awaited(fresh, released, at) if fresh or released else None


def since(device: Device) -> int:
    """From when its silence counts (Unix ms): its last message, else since it is waited for; 0: it does not count."""
    return device.last_seen or device.awaited_since


def wait(state: State, given: Awaited) -> list[Device]:
    """Remember whom is waited for from now on; gives these. Those that are waited for no more are left as they are."""
    waited = []
    for address in given.devices:
        device = state.devices.get(address)
        if device is None:
            device = state.devices[address] = unheard(address, KINDS[parts_of(address)[1]])
        if not since(device):
            device.awaited_since, device.changed = given.at, True
            waited.append(device)
    return waited


def release(state: State, given: Awaited) -> list[Device]:
    """Wait for these no longer; gives those that were never heard."""
    released = []
    for address in given.released:
        device = state.devices.get(address)
        if device is not None and device.awaited_since:
            device.awaited_since, device.changed = 0, True
            if not device.last_seen:
                released.append(device)
    return released
