"""Chattering: an alarm that comes and goes again and again (ISA-18.2), commonly three times in a minute.

Such an alarm is marked. One of low severity is shelved beside it: it stands, and nobody is told of it for a quarter
of an hour, however often it returns; then it comes back by itself, or is found to chatter on. Another press of a
button and another track are occurrences, not chatter.
"""

from rules.alarms import Severity
from rules.definitions import Rule
from rules.state import Device, State

RAISES = 3
WITHIN_MS = 60_000
SHELF_MS = 15 * 60_000
"""How long it is shelved."""

_SHELVED = (Severity.LOW, Severity.INFO)


def chatters(state: State, device: Device, rule: Rule, at: int) -> bool:
    """Its condition has come back: whether it does so too often."""
    if (
        rule.per_track or state.catching_up
    ):  # what comes in a rush after a stop says nothing of how fast it came
        return False
    device.raises = {name: moments for name, moments in device.raises.items() if moments[-1] > at - WITHIN_MS}
    moments = [moment for moment in device.raises.get(rule.id, ()) if moment > at - WITHIN_MS]
    device.raises[rule.id] = moments = [*moments, at][-RAISES:]
    return len(moments) == RAISES


def shelf(device: Device, rule: Rule) -> int | None:
    """Until when alarms of this condition are shelved (Unix ms)."""
    return device.shelved.get(rule.id)


def may_shelve(severity: Severity) -> bool:
    """Whether so little is at stake that nobody need be told for a while."""
    return severity in _SHELVED
