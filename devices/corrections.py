"""A reading of a time when the gateway did not know the time, once it does."""

from msgspec.structs import replace

from devices.decoding import AHEAD_MS, BEHIND_MS, milliseconds
from devices.readings import Flag, Reading


def corrected(reading: Reading, by_ms: int) -> Reading:
    """``reading`` as if it had been known that it came ``by_ms`` later; one that is not provisional as it is.

    The device's own time is judged anew: believed within the contract's window around the right arrival.
    """
    if not reading.flags & Flag.PROVISIONAL:
        return reading
    received_at = reading.received_at + by_ms
    told = _told(reading)
    flags = reading.flags & ~(Flag.PROVISIONAL | Flag.CLOCK_DOUBTED | Flag.LATE)
    if told is None and reading.ts is None:
        return replace(reading, received_at=received_at, source_time=received_at, flags=flags)
    if told is not None and received_at - BEHIND_MS <= told <= received_at + AHEAD_MS:
        return replace(reading, received_at=received_at, source_time=told, flags=flags, ts=None)
    if told is not None and reading.flags & Flag.LATE and told < received_at:
        return replace(reading, received_at=received_at, source_time=told, flags=flags | Flag.LATE)
    return replace(
        reading,
        received_at=received_at,
        source_time=received_at,
        flags=flags | Flag.CLOCK_DOUBTED,
        ts=told if reading.ts is None else reading.ts,
    )


def _told(reading: Reading) -> int | None:
    """What the device said of the time, believed or not; None if nothing, or nothing that is a time."""
    if reading.ts is None:
        return None if reading.source_time == reading.received_at else reading.source_time
    return milliseconds(reading.ts)
