"""The beginning of a stay on the board: an alarm with an id of its own, about which nothing is told yet."""

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
    )
