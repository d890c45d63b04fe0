"""Derived points: how fast a value changes."""

from collections.abc import Mapping

from devices.kinds import Rate
from devices.readings import Reading
from rules.state import Device


def measure_rates(device: Device, rates: Mapping[str, Rate], reading: Reading) -> None:
    """Change per second in event time; by arrival where a device's clock stands still."""
    source_time, received_at = reading.source_time, reading.received_at
    for name, rate in rates.items():
        value = reading.values.get(rate.of)
        if not isinstance(value, int | float):
            continue
        mark = device.rates.get(name)
        if mark is not None:
            before, source_before, received_before = mark
            passed_s = (source_time - source_before) / 1000
            if passed_s < rate.min_s:
                passed_s = (received_at - received_before) / 1000
            if passed_s < rate.min_s:
                continue
            if passed_s <= rate.max_s:
                device.points[name] = (value - before) / passed_s
            else:
                device.points.pop(name, None)
        device.rates[name] = (value, source_time, received_at)
