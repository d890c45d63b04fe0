"""Alarms that only the broker remembers: told with ``durable: false`` by a run that died before it could store them.

An alarm lost is the worst failure there is, so such an alarm goes back onto the board with the next version
and into the journal, if this gateway still has its rule. Otherwise it stays on the broker as it is, for
people to see. Values only: nothing here asks the broker or the store.
"""

from datetime import datetime

import msgspec
from msgspec.structs import replace

from devices.readings import Scalar
from rules.alarms import Alarm, AlarmChange, AlarmState, Severity, Transition
from rules.definitions import RuleSet

_ACTIVE = (AlarmState.UNACKED, AlarmState.ACKED)
_LATCHED = (AlarmState.LATCHED_UNACKED, AlarmState.LATCHED_ACKED)


class _Wire(msgspec.Struct):
    """An alarm as `Alarm.wire` tells it."""

    id: str
    key: str
    rule: str
    severity: Severity
    state: AlarmState
    version: int
    occurrences: int
    site: str
    node: str
    kind: str
    device: str
    place: dict[str, str]
    text: dict[str, str]
    values: dict[str, Scalar]
    source_time: int
    received_at: int
    first_raised_at: datetime
    raised_at: datetime
    track: str | None = None
    cleared_at: datetime | None = None
    acked_at: datetime | None = None
    acked_by: str | None = None
    comment: str | None = None
    cancelled_at: datetime | None = None
    late: bool = False
    drill: bool = False
    durable: bool = True


_decode = msgspec.json.Decoder(_Wire).decode


def adopted(payload: bytes, rules: RuleSet, now: int) -> AlarmChange | None:
    """The change that puts it back at ``now`` (Unix ms); None where its rule is gone or it makes no sense."""
    try:
        wire = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    rule = next((rule for rule in rules.rules if rule.id == wire.rule), None)
    if rule is None or rule.kind != wire.kind or wire.state is AlarmState.NORMAL:
        return None
    facts = {name: getattr(wire, name) for name in wire.__struct_fields__ if name in Alarm.__struct_fields__}
    times = ("first_raised_at", "raised_at", "cleared_at", "acked_at", "cancelled_at")
    alarm = Alarm(
        **{**facts, **{name: _ms(facts[name]) for name in times}},
        active=wire.state in _ACTIVE,
        latched=rule.latch or wire.state in _LATCHED,
        ack_required=rule.ack_required,
        closable=rule.waits_for_a_person,
    )
    alarm = replace(alarm, version=alarm.version + 1, durable=True)
    return AlarmChange(Transition.RAISED, alarm, now) if alarm.on_board else None


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)
