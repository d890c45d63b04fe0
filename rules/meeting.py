"""A device that was never heard before: remembered, unless nobody registered it and there are too many such."""

from devices.kinds.traits import Kind
from devices.readings import Channel, Flag, Reading, Scalar
from rules.state import Device, State


def meet(state: State, reading: Reading, kind: Kind, unregistered_max: int) -> Device | None:
    """The device that says this; None if it is one too many and not about a life."""
    points: dict[str, Scalar] = dict.fromkeys(kind.limited, False)
    device = Device(reading.address, kind.name, points, flags=reading.flags)
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
