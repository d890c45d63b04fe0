"""When it was so: the moment of each message in its device's own time, as far as that is believed.

Windows and durations are measured in the device's time, since messages wait and overtake each other on their way.
Where a device gives no time, one that is not believed or one that stands still, its time goes on by arrivals from
the last moment there was. So it needs no correction when the gateway's clock is set; only the arrival moves.

A message that newer ones of its device have overtaken by more than `TOLERANCE_MS` is late (`rules.lateness`). Only a
time that is believed can be late, and only for `BACK_MS` after something newer came: a clock that was set back by
no more than the intake believes makes what a device says look late for that long, and not for ever.
"""

from devices.readings import Channel, Flag, Reading
from rules.backlog import time_told
from rules.state import Clock, Device

TIMED = (Channel.TELEMETRY, Channel.EVENT)
"""What is said here has a moment; a status is what is so now."""

TOLERANCE_MS = 10_000
"""By so much messages may overtake each other without one being late."""

BACK_MS = 60_000
"""So long after its newest message (by arrival) a device's clock is not taken as set back."""


def is_overtaken(device: Device, reading: Reading) -> bool:
    """Whether a message is late: something newer came from this device, on the same channel."""
    clock = device.clock
    if clock is None:
        return False
    if reading.channel is Channel.EVENT:
        newest, at = clock.newest_event, clock.newest_event_at
    else:
        newest, at = clock.newest, clock.newest_at
    if reading.source_time >= newest - TOLERANCE_MS or reading.received_at - at > BACK_MS:
        return False
    return time_told(reading.source_time, reading.received_at, reading.flags) not in (None, clock.told)


def is_older(device: Device, reading: Reading, *, alone: bool) -> bool:
    """Whether telemetry was said before telemetry that was heard already, be it by a moment; by more it is late.

    ``alone``: the device has no events, so that its time is that of its telemetry, also where none was told.
    """
    clock = device.clock
    if clock is None:
        return False
    newest, at = (clock.moment, clock.at) if alone else (clock.newest, clock.newest_at)
    if not newest - TOLERANCE_MS <= reading.source_time < newest or reading.received_at - at > BACK_MS:
        return False
    told = time_told(reading.source_time, reading.received_at, reading.flags)
    return told is not None and not _stands_still(clock, told)


def tell_time(device: Device, reading: Reading, *, waited: bool) -> int:
    """The moment of a message that is not late (Unix ms); the device's clock goes on to it.

    ``waited``: the arrival tells nothing, because the reading may have waited in the broker.
    """
    if not waited and (gone_on := go_on(device.clock, reading)) is not None:
        return gone_on
    now, moment = reading.received_at, reading.source_time
    clock = device.clock
    told = time_told(moment, now, reading.flags)
    if clock is None:
        clock = device.clock = Clock(moment, now)
    elif told is None or (now > clock.told_at and _stands_still(clock, told)):
        moment = clock.moment + max(now - clock.at, 0)
    overtaken = clock.moment - TOLERANCE_MS <= moment < clock.moment
    if not overtaken:  # else the newest says better how late it is
        clock.moment, clock.at = moment, now
    clock.unsure = waited and told is None
    if told is not None:
        if not overtaken or now - clock.at > BACK_MS:  # a copy of it is no clock that stands still
            clock.told, clock.told_at = told, now
        if reading.channel is Channel.EVENT:
            if told >= clock.newest_event or now - clock.newest_event_at > BACK_MS:
                clock.newest_event, clock.newest_event_at = told, now
        elif told >= clock.newest or now - clock.newest_at > BACK_MS:
            clock.newest, clock.newest_at = told, now
    return moment


def _stands_still(clock: Clock, told: int) -> bool:
    """Whether a device tells the same time again, and it is no copy of what another message has overtaken since."""
    copied = clock.at != clock.told_at and clock.moment - TOLERANCE_MS <= told < clock.moment
    return told == clock.told and not copied


def go_on(clock: Clock | None, reading: Reading) -> int | None:
    """What `tell_time` does with nearly every message that has not waited; None, and nothing done, for any other.

    It is not late: it gives no time, or it is telemetry of a time that is believed and newer than all before.
    """
    moment, now = reading.source_time, reading.received_at
    if clock is None:
        return None
    if moment == now:
        moment = clock.moment + now - clock.at if now > clock.at else clock.moment
    elif (
        moment > clock.newest
        and moment >= clock.moment
        and moment != clock.told
        and not reading.flags & Flag.CLOCK_DOUBTED
        and reading.channel is Channel.TELEMETRY
    ):
        clock.told = clock.newest = moment
        clock.newest_at = clock.told_at = now
    else:
        return None
    clock.moment, clock.at, clock.unsure = moment, now, False
    return moment


def at_gateway(device: Device, moment: int) -> int:
    """When a moment of the device's time is by the gateway's clock (Unix ms)."""
    clock = device.clock
    return moment if clock is None else moment + clock.at - clock.moment


def at_device(device: Device, now: int) -> int:
    """The device's time when the gateway's is ``now`` (Unix ms)."""
    clock = device.clock
    return now if clock is None else now - clock.at + clock.moment
