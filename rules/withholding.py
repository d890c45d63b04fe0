"""What keeps a rule from raising for a while: its hours, and its cooldown after an alarm has left the board.

Withheld is not forgotten: a condition that still holds when the time comes is raised then, as if its on-delay had
been longer. An event is past by then, so it is left out. What ends an alarm is never withheld.
"""

from collections.abc import Mapping

from rules.alarms import Alarm
from rules.deadlines import push
from rules.definitions import Rule
from rules.hours import Calendar
from rules.state import Device, Ongoing, State


def earliest(state: State, device: Device, rule: Rule, at: int, calendar: Calendar) -> int:
    """When the rule, which would raise at ``at`` (Unix ms), may; counts what a cooldown withholds."""
    may = at
    until, before = device.cooling.get(rule.id, (0, 0))
    if until > at:
        may = until
        device.cooling[rule.id] = (until, before + 1)
        device.changed = True
        state.raises_withheld += 1
    return opens(state, rule, may, calendar)


def opens(state: State, rule: Rule, at: int, calendar: Calendar) -> int:
    """``at`` (Unix ms), or the beginning of the rule's next hours; while the time is not known it has no hours."""
    if rule.active is None or state.provisional_since is not None:
        return at
    return rule.active.opens(at, calendar)


def is_withheld(
    state: State, device: Device, rule: Rule, ongoing: Ongoing, at: int, calendar: Calendar
) -> bool:
    """Whether a condition that would raise at ``at`` may not yet; then it is looked at again when it may."""
    if rule.active is None and not rule.cooldown_ms:
        return False
    may = earliest(state, device, rule, at, calendar)
    if may <= at:
        return False
    if ongoing.fields is not None and ongoing.track is None:
        device.ongoing.pop(ongoing.condition, None)
        return True
    ongoing.wait += may - at
    ongoing.due = may
    push(state, device, ongoing, may)
    return True


def cool_down(state: State, alarm: Alarm, rules: Mapping[str, Rule], at: int) -> None:
    """An alarm has left the board at ``at`` (Unix ms)."""
    rule = rules.get(alarm.rule)
    device = state.devices.get(alarm.address)
    if rule is not None and rule.cooldown_ms and device is not None and alarm.members is None:
        device.cooling[rule.id] = (at + rule.cooldown_ms, 0)
        device.changed = True


def look_again(state: State, rules: Mapping[str, Rule], calendar: Calendar) -> None:
    """The clock was set, or is not to be trusted: hours begin when it shows so, whatever was left until then."""
    for device in state.devices.values():
        for ongoing in device.ongoing.values():
            rule = rules.get(ongoing.rule)
            if ongoing.due is None or not ongoing.wait or rule is None or rule.active is None:
                continue
            cooled = max(state.now, device.cooling.get(rule.id, (0, 0))[0])
            may = opens(state, rule, cooled, calendar)
            ongoing.wait += may - ongoing.due
            ongoing.due = may
            push(state, device, ongoing, may)
