"""Derived points: how fast a value changes."""

from devices.kinds import Kind
from devices.readings import Reading
from rules.state import Device, RateMark


def measure_rates(device: Device, kind: Kind, reading: Reading) -> None:
    """Change per second in event time; by arrival where a device's clock stands still."""
    for name, rate in kind.rates.items():
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
                device.points[name] = round((value - mark.value) / passed_s, 3)
            else:
                device.points.pop(name, None)
        device.rates[name] = RateMark(value, reading.source_time, reading.received_at)
