"""What has to be done for one kind of device: its rules, sorted by what can change their truth."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devices.kinds.traits import Kind, Limited, Rate
from devices.readings import Scalar
from rules.definitions import Crossing, Points, Rule
from rules.language.guards import Guard, guard_of
from rules.terms import Fading, Growing, Learning, Shown, Term

SHAPES_MOST = 1_024
"""Combinations of points in one message that are remembered, for each kind."""

Grows = tuple[int, Crossing]
"""Where what grows crosses a bound, and which of `Plan.growing` that is."""

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
    terms: tuple[Term, ...] = ()
    """Each once, after those that it rests on."""
    growing: tuple[Growing, ...] = ()
    watched: Mapping[str, "Watched"] = field(default_factory=dict)
    """By rule, what can change its truth without a message."""
    learning: Mapping[str, tuple[Learning, frozenset[str]]] = field(default_factory=dict)
    """By name, terms that learn, each with the rules whose alarms keep it from that."""
    grow_as: tuple[str, ...] = ()
    """The names of ``growing``."""
    bounds: tuple[str, ...] = ()
    """Points that bounds of what is ``watched`` follow from."""
    shapes: dict[tuple[str, ...], "Shape"] = field(default_factory=dict)
    fading: tuple[Fading, ...] = ()

    def touched_by(self, values: Mapping[str, Scalar]) -> tuple[tuple[Rule, Evaluate], ...]:
        """The rules whose truth can be another now that these points were said."""
        return self.shape_of(values).touched

    def shape_of(self, values: Mapping[str, Scalar]) -> "Shape":
        """What a message with these points or fields can change; remembered in ``shapes``."""
        names = tuple(values)
        shape = self.shapes.get(names)
        if shape is None:
            if len(self.shapes) >= SHAPES_MOST:
                self.shapes.clear()
            shape = self.shapes[names] = self._shape_of(names)
        return shape

    def _shape_of(self, names: tuple[str, ...]) -> "Shape":
        fed = tuple(term for term in self.terms if not term.feeds.isdisjoint(names))
        rates = {name: rate for name, rate in self.rates.items() if rate.of in names}
        said = frozenset(names).union(rates, (term.name for term in fed))
        return Shape(
            names,
            rates,
            {name: limited for name, limited in self.limited.items() if name in names},
            tuple(term for term in fed if not isinstance(term, Shown)),
            tuple(term for term in self.fading if term not in fed),
            tuple((rule, evaluate) for rule, evaluate in self.telemetry if said & names_of(rule)),
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message that holds certain points or fields can change."""

    names: tuple[str, ...]
    rates: Mapping[str, Rate]
    """Of the points in it."""
    limited: Mapping[str, Limited]
    hearing: tuple[Term, ...]
    """Terms that hear it."""
    fading: tuple[Fading, ...]
    """Terms that do not, and forget what is too old."""
    touched: tuple[tuple[Rule, Evaluate], ...]
    """Rules whose truth can be another."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What can change the truth of one rule although nothing is said."""

    crossings: tuple[Grows, ...]
    fading: tuple[Fading, ...]
    """Looked at only while the rule's condition is under way."""
    must_be_heard: bool = False
    """Nothing of it is known while the gateway is away (`rules.terms.Growing`)."""


def plan_of(kind: Kind, rules: tuple[Rule, ...]) -> Plan:
    """Sort the rules of a kind."""
    telemetry = tuple(
        (rule, rule.when.evaluate) for rule in rules if rule.when is not None and not rule.when.uses_event
    )
    terms = {name: term for rule in rules for name, term in rule.terms.items()}
    events = tuple(rule for rule in rules if rule.when is not None and rule.when.uses_event)
    growing = tuple(term for term in terms.values() if isinstance(term, Growing))
    grow_as = tuple(term.name for term in growing)
    watched = {rule.id: found for rule in rules if (found := _watched(rule, grow_as)) is not None}
    bounds = frozenset[str]().union(
        *(crossing.rests_on for found in watched.values() for _, crossing in found.crossings)
    )
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
        tuple(terms.values()),
        growing,
        watched,
        {term.name: (term, _spoilers(term, rules)) for term in terms.values() if isinstance(term, Learning)},
        grow_as,
        tuple(sorted(bounds)),
        fading=tuple(term for term in terms.values() if isinstance(term, Fading)),
    )


def _spoilers(learning: Learning, rules: Iterable[Rule]) -> frozenset[str]:
    """Rules whose alarms say that it is not as usual; a drill does not."""
    return frozenset(
        rule.id
        for rule in rules
        if not rule.drill
        and (rule.severity.needs_acknowledgement or not _looked_at(rule).isdisjoint(learning.spoiled_by))
    )


def _looked_at(rule: Rule) -> frozenset[str]:
    """Points and terms, and the points that a term alone is about."""
    if rule.when is None:
        return frozenset()
    return rule.when.names.union(*(term.feeds for term in rule.when.terms if len(term.feeds) == 1))


def _watched(rule: Rule, growing: Sequence[str]) -> Watched | None:
    crossings = tuple(
        (growing.index(crossing.term.name), crossing)
        for condition in rule.conditions
        for crossing in condition.crossings
    )
    terms = {term.name: term for condition in rule.conditions for term in condition.terms}
    fading = tuple(term for term in terms.values() if isinstance(term, Fading))
    must_be_heard = any(getattr(crossing.term, "must_be_heard", False) for _, crossing in crossings)
    return Watched(crossings, fading, must_be_heard) if crossings or fading else None


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
