"""Orders: the commands of an alarm, to the device itself or to others at the same place.

Each device gets an order of its own. A guard of the command (`only_if_false`, `devices.kinds.commands`) is asked of the
device that obeys; what would be unsafe, or has nobody to obey it, is withheld with its reason.
"""

from collections.abc import Iterator

from devices.kinds import KINDS
from devices.kinds.commands import Command
from devices.readings import Address
from rules.alarms import Alarm, Outcome
from rules.decisions import Order, Withheld
from rules.definitions import Action, Rule
from rules.ids import ulid
from rules.places import Neighbourhood
from rules.state import State

TARGETS_MOST = 64
"""Devices that one action may reach."""


def orders_of(
    state: State, alarm: Alarm, rule: Rule, around: Neighbourhood, at: int
) -> Iterator[Order | Withheld]:
    """What follows from an alarm that has been raised, in the order of its actions and of the addresses."""
    for number, action in enumerate(rule.actions):
        if action.to is None:
            yield _given(state, alarm, alarm.address, action, (number,), at)
            continue
        targets, reason = _targets(alarm.address, action, around)
        for target in targets:
            yield _given(state, alarm, target, action, (number, target), at)
        if reason is not None:
            yield Withheld(alarm.id, alarm.address, action.command, reason, at)


def _targets(
    address: Address, action: Action, around: Neighbourhood
) -> tuple[tuple[Address, ...], str | None]:
    """Who is to obey, and why somebody is left out."""
    to = action.to
    if to is None:
        return (address,), None
    place = around.place(address, to.same)
    if place is None:
        return (), f"its {to.same} is unknown"
    found = around.members(place, to.same, to.kind)
    if not found:
        return (), f"no {to.kind} is registered in the same {to.same}"
    if len(found) > TARGETS_MOST:
        left = len(found) - TARGETS_MOST
        return found[:TARGETS_MOST], f"{left} more {to.kind} than the {TARGETS_MOST} that an action reaches"
    return found, None


def _given(
    state: State, alarm: Alarm, address: Address, action: Action, number: tuple[object, ...], at: int
) -> Order | Withheld:
    device = state.devices.get(address)
    kind = action.to.kind if action.to is not None else alarm.kind
    command: Command = KINDS[kind].commands[action.command]
    guard = command.only_if_false
    value = None if guard is None or device is None else device.points.get(guard)
    if guard is not None and (alarm.late or value is not False):
        known = value is not None and not alarm.late  # what was known is old by now
        return Withheld(alarm.id, address, action.command, f"{guard} is {'true' if known else 'unknown'}", at)
    if command.taken_back_by is not None and alarm.outcome is Outcome.RELEASED:
        return Withheld(alarm.id, address, action.command, "staff let it ride", at)
    order_id = ulid(at, alarm.id, alarm.occurrences, *number)
    expires_at = at + action.expires_s * 1000
    return Order(order_id, alarm.id, address, action.command, dict(action.args), at, expires_at)
