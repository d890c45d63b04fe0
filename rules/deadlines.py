"""What becomes due, and when: the heap of deadlines, which follows from the rest of the state.

One that no longer holds is skipped when its time comes. Only looks are removed before, and when they are many: while
a device's clock catches up with the gateway's, each message of a backlog puts them forward. What has deadlines: a delay
that runs, an alarm that rises or ends by itself, a limited point that is believed no longer, silence, a condition that
changes without a message; and an incident that is out of sight.
"""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappush

from devices.kinds.traits import Following
from rules.alarms import Severity, alarm_key
from rules.awaited import since as silent_since
from rules.definitions import Rule
from rules.plans import Plan
from rules.state import Deadline, Device, Ongoing, State
from rules.tracks import LOST, due_names

LIMITED = "limited:"
"""Begins the condition of a deadline of a limited point; its name follows."""


WATCH = "watch:"
"""Begins the condition of a deadline at which a rule's condition is looked at (`rules.watches`); its id follows."""


OUTDATED_LEAST = 1_000
"""So many replaced looks may always wait for their time."""


def key_of(condition: str, device: Device) -> str:
    """The key of the alarm that a condition (rule id, or ``rule/track``) raises for this device."""
    rule, _, track = condition.partition("/")
    return alarm_key(rule, device.address, track or None)


def push(state: State, device: Device, ongoing: Ongoing, due: int) -> None:
    """Something about a condition is due (Unix ms)."""
    condition = ongoing.condition
    heappush(state.deadlines, (due, key_of(condition, device), device.address, condition))


def arm(
    state: State, device: Device, rule: Rule, ongoing: Ongoing, severity: Severity, at: int, so_at: int | None
) -> None:
    """A condition has raised its alarm, or once more, at ``at`` (Unix ms), which was so at ``so_at`` by the device's
    clock, if that is known.
    """  # noqa: D205
    if rule.clear_after_ms:
        ongoing.ends, ongoing.over_since = at + rule.clear_after_ms, so_at
        push(state, device, ongoing, ongoing.ends)
    if rule.escalate and ongoing.escalates is None:
        arm_rise(state, device, rule, ongoing, severity, at)


def arm_rise(
    state: State, device: Device, rule: Rule, ongoing: Ongoing, severity: Severity, raised_at: int
) -> None:
    """From ``severity`` on, an alarm raised at ``raised_at`` (Unix ms) rises next, if it does."""
    rise = rule.next_rise(severity)
    ongoing.escalates = None if rise is None else raised_at + rise.after_ms
    if ongoing.escalates is not None:
        push(state, device, ongoing, ongoing.escalates)


def push_limited(state: State, device: Device, name: str, due: int) -> None:
    """A limited point is believed until ``due`` (Unix ms)."""
    heappush(state.deadlines, (due, LIMITED + name, device.address, LIMITED + name))


def push_silences(state: State, device: Device, rules: Iterable[Rule], now: int) -> None:
    """From ``now`` on silence counts for these rules."""
    for rule in rules:
        due = now + (rule.silent_for_ms or 0)
        heappush(state.deadlines, (due, key_of(rule.id, device), device.address, rule.id))


def push_lost(state: State, device: Device, following: Following) -> None:
    """Incidents out of sight are looked at again."""
    for due, name in due_names(device, following):
        heappush(state.deadlines, (due, LOST + name, device.address, LOST + name))


def push_look(state: State, device: Device, rule: str, due: int) -> None:
    """The condition of a rule is looked at when ``due`` (Unix ms), and no longer when it was to be."""
    state.outdated += rule in device.armed
    device.armed[rule] = due
    heappush(state.deadlines, (due, key_of(rule, device), device.address, WATCH + rule))
    if state.outdated > OUTDATED_LEAST and 2 * state.outdated > len(state.deadlines):
        _forget_outdated(state)


def _forget_outdated(state: State) -> None:
    """Remove the looks that others have replaced: they would be skipped."""
    state.deadlines[:] = [deadline for deadline in state.deadlines if _holds(state, deadline)]
    heapify(state.deadlines)
    state.outdated = 0


def _holds(state: State, deadline: Deadline) -> bool:
    due, _, address, condition = deadline
    if not condition.startswith(WATCH):
        return True
    device = state.devices.get(address)
    return device is not None and device.armed.get(condition.removeprefix(WATCH)) == due


def derive(state: State, plans: Mapping[str, Plan]) -> None:
    """Build the heap from the rest of the state; ``plans`` by kind."""
    deadlines = state.deadlines
    deadlines.clear()
    state.outdated = 0
    state.held.clear()
    for number, device in enumerate(state.devices.values()):
        plan = plans[device.kind]
        for condition, ongoing in device.ongoing.items():
            for due in (ongoing.due, ongoing.escalates, ongoing.ends):
                if due is not None:
                    deadlines.append((due, key_of(condition, device), device.address, condition))
        for name, since in device.limited.items():
            due = since + int(plan.kind.limited[name].limit_s * 1000)
            deadlines.append((due, LIMITED + name, device.address, LIMITED + name))
        if device.incidents and plan.kind.following is not None:
            for due, name in due_names(device, plan.kind.following):
                deadlines.append((due, LOST + name, device.address, LOST + name))
        for rule_id, due in device.armed.items():
            deadlines.append((due, key_of(rule_id, device), device.address, WATCH + rule_id))
        if (known := silent_since(device)) and state.listening_since is not None:
            since = max(known, state.listening_since)
            for rule in plan.silences:
                if rule.id in device.silences:
                    continue
                due = since + (rule.silent_for_ms or 0)
                if since > known:  # one that comes early looks again: not all devices at once
                    due -= (due - since) // 2 * number // len(state.devices)
                deadlines.append((due, key_of(rule.id, device), device.address, rule.id))
    heapify(deadlines)
