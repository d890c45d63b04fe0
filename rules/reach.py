"""How far rules look: back in time, and around a device. What replay must read before, and keep together."""

from collections.abc import Iterable, Iterator
from enum import IntEnum

from devices.kinds import KINDS
from rules.definitions import Rule
from rules.functions.around import Around
from rules.places import Level


class Reach(IntEnum):
    """Which devices must be judged together, the farthest last."""

    DEVICE = 0
    """Each by itself."""
    BUILDING = 1
    """All of a building, and all of a group."""
    SITE = 2


def reach_of(rules: Iterable[Rule]) -> Reach:
    """How far around a device the farthest of these rules looks or gives orders.

    What only tells (folds, floods, what explains an alarm) raises nothing and clears nothing, so it counts for nothing.
    """
    levels = {level for rule in rules for level in _levels(rule)}
    if Level.SITE in levels:
        return Reach.SITE
    return Reach.BUILDING if levels else Reach.DEVICE


WINDOW_MOST_MS = 86_400_000
"""A window that is longer is not worth to read so much for: it is shorter at first, as in a new gateway."""


def look_back_ms(rules: Iterable[Rule]) -> int:
    """How long before a moment something may have happened that decides at it: a window and a delay after it."""
    return max((_look_back_ms(rule) for rule in rules), default=0)


def _look_back_ms(rule: Rule) -> int:
    spans = [rule.for_ms, rule.clear_for_ms, rule.clear_after_ms, rule.cooldown_ms, rule.silent_for_ms or 0]
    spans += [rise.after_ms for rise in rule.escalate]
    spans += [each.within_ms for each in (rule.fold, rule.flood) if each is not None]
    spans += [int(limited.limit_s * 1000) for limited in KINDS[rule.kind].limited.values()]
    windows = (min(term.look_back_ms, WINDOW_MOST_MS) for term in rule.terms.values())
    return max(spans) + max(windows, default=0)


def _levels(rule: Rule) -> Iterator[Level]:
    yield from (term.same for term in rule.terms.values() if isinstance(term, Around))
    yield from (action.to.same for action in rule.actions if action.to is not None)
