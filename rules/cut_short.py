"""Delays that a message cuts short although they had run out: it came sooner after their beginning than it was said.

A delay runs from the arrival, for a timestamp must never hold back an alarm. Where the beginning was held up on its
way (a stall, a slow line, a device that keeps what it cannot say) the end arrives close behind it, and the delay has
not run out by then. Both were said by one clock, which need not be right, only go on: if by it the condition lasted
for longer than its delay, by `SURE_MS`, that it was so is told late, with what was known before its end.

Less than that is left to the arrivals. So messages that take about as long as each other change nothing, nor do
times in whole seconds.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from devices.readings import Reading, Scalar
from rules.backlog import time_told
from rules.definitions import Rule
from rules.state import Device, Ongoing

SURE_MS = 1_000


class Before(NamedTuple):
    """What was known of a device before its message was taken."""

    told: int
    """When the message was said (Unix ms, device's clock)."""
    last_seen: int
    source_time: int
    points: dict[str, Scalar]
    shape: tuple[str, ...]
    times: dict[str, int]


def before(device: Device, reading: Reading, rules: Mapping[str, Rule]) -> Before | None:
    """What is known of a device that says ``reading``, if this may cut short a delay that has run out."""
    told = time_told(reading.source_time, reading.received_at, reading.flags)
    if told is None or not any(
        has_run_out(ongoing, rules[ongoing.rule], told) for ongoing in device.ongoing.values()
    ):
        return None
    return Before(
        told, device.last_seen, device.source_time, dict(device.points), device.shape, dict(device.told)
    )


def has_run_out(ongoing: Ongoing, rule: Rule, told: int) -> bool:
    """Whether a delay that is under way had certainly run out at ``told``, by the device's clock."""
    if ongoing.due is None or ongoing.since is None or not ongoing.told:
        return False
    return told - ongoing.since >= rule.for_ms + ongoing.wait + SURE_MS


@contextmanager
def as_before(device: Device, known: Before) -> Iterator[None]:
    """Within this the device is as it was."""
    now = Before(known.told, device.last_seen, device.source_time, device.points, device.shape, device.told)
    _show(device, known)
    try:
        yield
    finally:
        _show(device, now)


def _show(device: Device, known: Before) -> None:
    device.last_seen, device.source_time = known.last_seen, known.source_time
    device.points, device.shape, device.told = known.points, known.shape, known.times
