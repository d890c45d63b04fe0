"""A stay on the board: an alarm that begins has an id of its own, one that comes again while it stands keeps it.

What is told of it (text, values, place) is left to those who raise it.
"""

from msgspec.structs import replace

from devices.readings import Address, parts_of
from rules.alarms import Alarm
from rules.definitions import Rule
from rules.ids import ulid
from rules.state import State


def begin_stay(
    state: State, rule: Rule, key: str, address: Address, at: int, *, site: str, node: str, track: str | None
) -> Alarm:
    """The alarm of ``rule`` about ``address`` that begins at ``at`` (Unix ms) at the gateway ``node`` of ``site``."""
    state.stays += 1
    where, kind, device = parts_of(address)
    return Alarm(
        id=ulid(at, site, node, key, state.stays),
        key=key,
        rule=rule.id,
        severity=rule.severity,
        site=where,
        node=node,
        kind=kind,
        device=device,
        place={},
        text={},
        values={},
        track=track,
        source_time=at,
        received_at=at,
        first_raised_at=at,
        raised_at=at,
        ack_required=rule.ack_required,
        drill=rule.drill,
    )


def come_again(standing: Alarm, rule: Rule, at: int) -> Alarm:
    """The same stay of an alarm, raised once more at ``at`` (Unix ms) by ``rule`` as it is now.

    Whoever acknowledged it did so for what was. Its severity never falls, and what was real becomes no drill.
    """
    severity = min(standing.severity, rule.severity, key=lambda each: each.rank)
    return replace(
        standing,
        version=standing.version + 1,
        occurrences=standing.occurrences + 1,
        severity=severity,
        raised_at=at,
        active=True,
        cleared_at=None,
        ack_required=rule.ack_required_at(severity),
        acked_at=None,
        acked_by=None,
        comment=None,
        cancelled_at=None,
        closable=False,
        drill=standing.drill and rule.drill,
        superseded=None,
    )
