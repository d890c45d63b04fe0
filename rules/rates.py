"""Derived points: how fast a value changes."""

from collections.abc import Mapping

from devices.kinds import Rate
from devices.readings import Reading
from rules.backlog import time_told
from rules.state import Device, RateMark


def measure_rates(
    device: Device, rates: Mapping[str, Rate], reading: Reading, *, waited: bool = False
) -> None:
    """Change per second in event time; by arrival where a device's clock stands still.

    ``waited``: the arrival tells nothing, because the reading may have waited in the broker.
    """
    untimed = waited and time_told(reading.source_time, reading.received_at, reading.flags) is None
    for name, rate in rates.items():
        value = reading.values.get(rate.of)
        if not isinstance(value, int | float):
            continue
        if untimed:
            device.points.pop(name, None)
            device.rates.pop(name, None)
            continue
        mark = device.rates.get(name)
        if mark is not None:
            passed_s = (reading.source_time - mark.source_time) / 1000
            if passed_s < rate.min_s and not waited:
                passed_s = (reading.received_at - mark.received_at) / 1000
            if passed_s < rate.min_s:
                continue
            if passed_s <= rate.max_s:
                device.points[name] = (value - mark.value) / passed_s
            else:
                device.points.pop(name, None)
        device.rates[name] = RateMark(value, reading.source_time, reading.received_at)
