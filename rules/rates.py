"""Derived points: how fast a value changes."""

from collections.abc import Mapping

from devices.kinds.traits import Rate
from devices.readings import Reading
from rules.backlog import time_told
from rules.state import Device


def measure_rates(
    device: Device, rates: Mapping[str, Rate], reading: Reading, *, waited: bool = False
) -> None:
    """Change per second in event time; by arrival where a device's clock stands still.

    ``waited``: the arrival tells nothing, because the reading may have waited in the broker.
    """
    source_time, received_at = reading.source_time, reading.received_at
    untimed = waited and time_told(source_time, received_at, reading.flags) is None
    for name, rate in rates.items():
        value = reading.values.get(rate.of)
        if not isinstance(value, (int, float)):  # `int | float` would be made anew for every message
            continue
        if untimed:
            device.points.pop(name, None)
            device.rates.pop(name, None)
            continue
        mark = device.rates.get(name)
        if mark is not None:
            before, source_before, received_before = mark
            passed_s = (source_time - source_before) / 1000
            if passed_s < rate.min_s and not waited:
                passed_s = (received_at - received_before) / 1000
            if passed_s < rate.min_s:
                continue
            if passed_s <= rate.max_s:
                device.points[name] = (value - before) / passed_s
            else:
                device.points.pop(name, None)
        device.rates[name] = (value, source_time, received_at)
