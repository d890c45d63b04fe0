"""What has to be done for one kind of device: its rules, sorted by what can change their truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from devices.kinds import Kind, Limited, Rate
from devices.readings import Scalar
from rules.definitions import Points, Rule
from rules.guards import Guard, guard_of

SHAPES_MOST = 1_024
"""Combinations of points in one message that are remembered, for each kind."""

Evaluate = Callable[[Points], bool | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of one kind."""

    kind: Kind
    rates: Mapping[str, Rate]
    limited: Mapping[str, Limited]
    rules: Mapping[str, Rule]
    telemetry: tuple[tuple[Rule, Evaluate], ...]
    can_hold: Guard
    """Whether any of these can be true; one call instead of one each."""
    events: tuple[Rule, ...]
    silences: tuple[Rule, ...]
    cleared_by_event: frozenset[str]
    touched: dict[tuple[str, ...], tuple[tuple[Rule, Evaluate], ...]] = field(default_factory=dict)

    def touched_by(self, values: Mapping[str, Scalar]) -> tuple[tuple[Rule, Evaluate], ...]:
        """The rules whose truth can be another now that these points were said; remembered in ``touched``."""
        rules = self.touched.get(tuple(values))
        if rules is not None:
            return rules
        if len(self.touched) >= SHAPES_MOST:
            self.touched.clear()
        rates = {name for name, rate in self.rates.items() if rate.of in values}
        names = rates.union(values)
        rules = tuple((rule, evaluate) for rule, evaluate in self.telemetry if names & names_of(rule))
        self.touched[tuple(values)] = rules
        return rules


def plan_of(kind: Kind, rules: tuple[Rule, ...]) -> Plan:
    """Sort the rules of a kind."""
    telemetry = tuple(
        (rule, rule.when.evaluate) for rule in rules if rule.when is not None and not rule.when.uses_event
    )
    events = tuple(rule for rule in rules if rule.when is not None and rule.when.uses_event)
    return Plan(
        kind,
        dict(kind.rates),
        dict(kind.limited),
        {rule.id: rule for rule in rules},
        telemetry,
        guard_of([rule.when for rule, _ in telemetry if rule.when is not None]),
        events,
        tuple(rule for rule in rules if rule.silent_for_ms is not None),
        frozenset(rule.id for rule in events if rule.clear is not None and not rule.clear.uses_event),
    )


def names_of(rule: Rule) -> frozenset[str]:
    """Points and event fields that its conditions look at."""
    conditions = [condition for condition in (rule.when, rule.clear) if condition is not None]
    return frozenset().union(*(condition.names for condition in conditions))


def truth_of(rule: Rule, view: Points) -> bool | None:
    """Whether its condition holds."""
    return None if rule.when is None else rule.when.evaluate(view)


def is_over(rule: Rule, truth: bool | None, view: Points, *, raised: bool) -> bool:
    """Whether a condition that began has ended. Unknown ends nothing."""
    if rule.clear is not None and rule.clear.evaluate(view):
        return True
    if not raised:
        return truth is False
    by_itself = rule.clear is None and not rule.waits_for_a_person
    return by_itself and truth is False
