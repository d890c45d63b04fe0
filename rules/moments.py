"""When it was so: the moment of each message in its device's own time, as far as that is believed.

Windows and durations are measured in the device's time, since messages wait and overtake each other on their way.
Where a device gives no time, one that is not believed or one that stands still, its time goes on by arrivals from
the last moment there was. So it needs no correction when the gateway's clock is set; only the arrival moves.
"""

from devices.readings import Reading
from rules.backlog import time_told
from rules.state import Clock, Device


def tell_time(device: Device, reading: Reading, *, waited: bool) -> int:
    """The moment of a message (Unix ms), before `Device.source_time` is changed; the device's clock goes on to it.

    ``waited``: the arrival tells nothing, because the reading may have waited in the broker.
    """
    now = reading.received_at
    told = time_told(reading.source_time, now, reading.flags)
    clock = device.clock
    if clock is None:
        device.clock = Clock(reading.source_time, now, waited and told is None)
        return reading.source_time
    if told is None or told == device.source_time:
        clock.unsure = waited and told is None
        clock.moment += max(now - clock.at, 0)
    else:
        clock.unsure = False
        clock.moment = told
    clock.at = now
    return clock.moment


def at_gateway(device: Device, moment: int) -> int:
    """When a moment of the device's time is by the gateway's clock (Unix ms)."""
    clock = device.clock
    return moment if clock is None else moment + clock.at - clock.moment


def at_device(device: Device, now: int) -> int:
    """The device's time when the gateway's is ``now`` (Unix ms)."""
    clock = device.clock
    return now if clock is None else now - clock.at + clock.moment
