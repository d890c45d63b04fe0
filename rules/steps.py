"""What a step of the wall clock does to what the engine remembers.

The engine's time is the monotonic clock plus an offset. When the offset changes, every moment that something
still depends on moves with it: a delay keeps what is left of it, silence what has passed of it, and nothing
becomes due or overdue. Moments that were told stay, unless they were provisional: then they are corrected.

A moment that a device gave by its own clock is its own and stays, and so does every moment that terms remember
(`rules.moments`).
"""

from collections.abc import Mapping

from msgspec.structs import replace

from devices.readings import Flag
from rules.alarms import Alarm
from rules.state import Device, RateMark, State


def shift(state: State, by_ms: int) -> None:
    """Move every moment of ``state`` by ``by_ms``, but no alarm's."""
    for device in state.devices.values():
        _shift_device(device, by_ms)
    for deadlines in (state.deadlines, state.held):
        deadlines[:] = [(due + by_ms, key, address, condition) for due, key, address, condition in deadlines]
    if state.listening_since:
        state.listening_since += by_ms
    state.announced[:] = [moment + by_ms for moment in state.announced]
    for key in state.folds_due:
        state.folds_due[key] += by_ms
    state.standing.well.clear()
    state.now += by_ms


def corrected(alarm: Alarm, since: int, by_ms: int) -> Alarm:
    """``alarm`` with every moment from ``since`` on, which was provisional, moved by ``by_ms``."""

    def right(moment: int) -> int:
        return moment if moment < since else moment + by_ms

    def right_if(moment: int | None) -> int | None:
        return None if moment is None else right(moment)

    own = alarm.source_time != alarm.received_at
    return replace(
        alarm,
        source_time=alarm.source_time if own else right(alarm.source_time),
        received_at=right(alarm.received_at),
        first_raised_at=right(alarm.first_raised_at),
        raised_at=right(alarm.raised_at),
        cleared_at=right_if(alarm.cleared_at),
        acked_at=right_if(alarm.acked_at),
        cancelled_at=right_if(alarm.cancelled_at),
        shelved_until=right_if(alarm.shelved_until),
        provisional=False,
        why=None if alarm.why is None else alarm.why.corrected(right, own=own),
    )


def _shift_device(device: Device, by_ms: int) -> None:
    device.changed = True
    device.flags &= ~Flag.PROVISIONAL
    if device.last_seen:
        if device.source_time == device.last_seen:
            device.source_time += by_ms
        device.last_seen += by_ms
    if device.awaited_since:
        device.awaited_since += by_ms
    for ongoing in device.ongoing.values():
        for name in ("due", "escalates", "ends"):
            if (due := getattr(ongoing, name)) is not None:
                setattr(ongoing, name, due + by_ms)
    for incident in device.incidents.values():
        incident.lost = None if incident.lost is None else incident.lost + by_ms
        incident.shut = None if incident.shut is None else incident.shut + by_ms
    device.armed = {rule: due + by_ms for rule, due in device.armed.items()}
    device.lull = None
    if device.clock is not None:
        device.clock.at += by_ms
        device.clock.newest_at += by_ms
        device.clock.newest_event_at += by_ms
        device.clock.told_at += by_ms
    device.past_at += by_ms
    device.rates = _shift_marks(device.rates, by_ms)
    device.cooling = {rule: (until + by_ms, count) for rule, (until, count) in device.cooling.items()}
    device.limited = {name: since + by_ms for name, since in device.limited.items()}
    device.raises = {name: [moment + by_ms for moment in moments] for name, moments in device.raises.items()}
    device.shelved = {name: until + by_ms for name, until in device.shelved.items()}
    device.marks = {name: last and last + by_ms for name, last in device.marks.items()}


def _shift_marks(marks: Mapping[str, RateMark], by_ms: int) -> dict[str, RateMark]:
    return {
        name: (value, source_time + (by_ms if source_time == received_at else 0), received_at + by_ms)
        for name, (value, source_time, received_at) in marks.items()
    }
