"""Derived points: how fast a value changes."""

from collections.abc import Mapping

from devices.kinds import Rate
from devices.readings import Reading
from rules.state import Device, RateMark


def measure_rates(device: Device, rates: Mapping[str, Rate], reading: Reading) -> None:
    """Change per second in event time; by arrival where a device's clock stands still."""
    for name, rate in rates.items():
        value = reading.values.get(rate.of)
        if not isinstance(value, int | float):
            continue
        mark = device.rates.get(name)
        if mark is not None:
            passed_s = (reading.source_time - mark.source_time) / 1000
            if passed_s < rate.min_s:
                passed_s = (reading.received_at - mark.received_at) / 1000
            if passed_s < rate.min_s:
                continue
            if passed_s <= rate.max_s:
                device.points[name] = (value - mark.value) / passed_s
            else:
                device.points.pop(name, None)
        device.rates[name] = RateMark(value, reading.source_time, reading.received_at)
