"""Messages that may have waited in the broker: what their times say of a delay.

After a stop the broker hands over what came meanwhile, faster than it happened. Its arrival says nothing
about when it was so; only the device's own time does, where it gave one that is believed. What cannot be
known is never taken as harmless: the delay counts as run out, as far as that can be, and the alarm is marked `late`.
An alarm without a delay is not: a wrong clock must not make a press look old.
"""

from devices.readings import Flag
from rules.state import Device, Ongoing, State

LATE_MS = 10_000
"""Before both sessions are up nobody knows when hearing began; what is older than this is late."""


WAITED_MOST_MS = 7 * 86_400_000
"""Nothing has waited for longer: so long does the broker keep a session (`edge.mqtt.link.SESSION_EXPIRY_S`)."""


def time_told(source_time: int, received_at: int, flags: int) -> int | None:
    """When it was so (Unix ms, device's clock), or None: not told or not believed, the arrival stands in."""
    if flags & Flag.CLOCK_DOUBTED or source_time == received_at:
        return None
    return source_time


def began_at(device: Device, now: int, *, behind: bool) -> int | None:
    """When what is found to be so ``now`` began, by the device's clock; None: it may have waited and does not tell."""
    if device.last_seen != now:  # a deadline or changed rules begin it
        return now
    return time_told(device.source_time, device.last_seen, device.flags) if behind else device.source_time


def had_run_out(ongoing: Ongoing, for_ms: int, told: int | None) -> bool:
    """Whether a delay whose time has come had run out when the device spoke, at ``told``.

    Both ends are times of the same clock, so it need not be right, only go on.
    """
    if told is None or ongoing.since is None:
        return True
    return not 0 <= told - ongoing.since < for_ms


def was_missed(state: State, moment: int) -> bool:
    """Whether it was so before the gateway heard its devices (again)."""
    if state.listening_since is None:
        return moment < state.now - LATE_MS
    return moment <= state.listening_since
