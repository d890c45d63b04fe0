"""A device that was never heard before: remembered, unless nobody registered it and there are too many such."""

from devices.kinds.traits import Kind
from devices.readings import Address, Channel, Flag, Reading
from rules.state import Device, State


def unheard(address: Address, kind: Kind) -> Device:
    """A device that has said nothing: what is believed for a while only counts as false (`devices.kinds.traits`)."""
    return Device(address, kind.name, dict.fromkeys(kind.limited, False))


def meet(state: State, reading: Reading, kind: Kind, unregistered_max: int) -> Device | None:
    """The device that says this; None if it is one too many and not about a life."""
    device = unheard(reading.address, kind)
    device.flags = reading.flags
    if reading.flags & Flag.UNREGISTERED:
        if state.unregistered >= unregistered_max:
            life = reading.channel is Channel.EVENT or (
                kind.safety and reading.channel is Channel.TELEMETRY and not reading.retained
            )
            if not life:
                state.refused += 1
                return None
        state.unregistered += 1
    state.devices[reading.address] = device
    return device
