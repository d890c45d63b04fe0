"""How far rules look: back in time, and around a device. What replay must read before, and keep together."""

from collections.abc import Iterable
from enum import IntEnum

from devices.kinds import KINDS
from rules.definitions import Rule


class Reach(IntEnum):
    """Which devices must be judged together, the farthest last."""

    DEVICE = 0
    """Each by itself."""
    BUILDING = 1
    SITE = 2


def reach_of(rules: Iterable[Rule]) -> Reach:
    """How far around a device the farthest of these rules looks. Until rules look at others: not at all."""
    return max((Reach.DEVICE for _ in rules), default=Reach.DEVICE)


def look_back_ms(rules: Iterable[Rule]) -> int:
    """How long before a moment something may have happened that decides at it: delays, silence, limited points."""
    longest = 0
    for rule in rules:
        limits = (int(limited.limit_s * 1000) for limited in KINDS[rule.kind].limited.values())
        longest = max(longest, rule.for_ms, rule.silent_for_ms or 0, *limits)
    return longest
