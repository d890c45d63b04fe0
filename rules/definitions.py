"""A rule, checked and compiled: what the engine runs."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from math import ceil
from types import MappingProxyType

from devices.readings import Scalar
from devices.registry import Device as Registered
from rules.alarms import Severity
from rules.hours import PLAIN, Calendar, Hours
from rules.places import Level
from rules.terms import Growing, Term
from rules.vocabulary import Point

Truth = bool | None
"""True, false, or None for unknown (Kleene's strong three-valued logic)."""

Points = Mapping[str, Scalar]
"""What a condition looks at: a device's last values; in an event rule, the event's fields beside them."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a condition compares a growing term: at its bound the truth changes without a message."""

    term: Growing
    bound: Callable[[Points], float | None]
    """Seconds."""
    strict: bool
    """It changes only just after the bound."""
    lasts_ms: int | None = None
    """From the beginning to the change, where the bound is a constant."""
    rests_on: frozenset[str] = frozenset()
    """Points that the bound follows from."""

    def lasting(self, points: Points) -> int | None:
        """From the beginning to the change (ms); None where the bound is unknown."""
        if self.lasts_ms is not None:
            return self.lasts_ms
        bound = self.bound(points)
        return None if bound is None else change_after(bound, strict=self.strict)


def change_after(bound: float, *, strict: bool) -> int:
    """The first whole millisecond at which a duration has crossed ``bound`` (seconds)."""
    ms = ceil(bound * 1000)
    if ms / 1000 < bound:  # the same division as that of a growing term decides
        ms += 1
    return ms + strict


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression and the closure it was compiled to."""

    source: str
    tree: ast.expr
    """Its syntax, checked; a term is a name, and what `let` names is written out."""
    names: frozenset[str]
    """Points, event fields and terms."""
    evaluate: Callable[[Points], Truth]
    uses_event: bool
    """Mentions an event field: it has a value only in that event."""
    terms: tuple[Term, ...] = ()
    """Each after those that it rests on."""
    crossings: tuple[Crossing, ...] = ()
    lets: frozenset[str] = frozenset()
    """What it calls by a name that `let` or the kind gives."""


@dataclass(frozen=True, slots=True)
class Let:
    """A name for terms and arithmetic, given by a rule or by the kind."""

    point: Point
    source: str
    tree: ast.expr
    names: frozenset[str]
    evaluate: Callable[[Points], Scalar | None]
    terms: tuple[Term, ...] = ()
    growing: Growing | None = None
    """Set where it is nothing but this term."""
    lets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Text:
    """A message template in one language; rendering cannot fail, an absent value prints as –."""

    source: str
    render: Callable[[Points], str]
    names: frozenset[str] = frozenset()


class Ack(StrEnum):
    """Whether a person must acknowledge; by default critical and high demand it."""

    DEFAULT = "default"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Target:
    """Other devices that obey: all of a kind that stand at the same place."""

    kind: str
    same: Level


@dataclass(frozen=True, slots=True)
class Action:
    """A command given to the device, or to others, when the alarm is raised."""

    command: str
    args: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))
    expires_s: int = 60
    to: Target | None = None
    """None: the device itself."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A rule whose standing alarm explains those of another rule."""

    rule: str
    same: Level | None = None
    """At the same place; None: of the same device."""


@dataclass(frozen=True, slots=True)
class Fold:
    """When several devices of one place have the same alarm together, one alarm names them all."""

    same: tuple[Level, ...]
    """Nearest first; the farthest that fits is taken."""
    least: int
    share: float
    """Of the devices there that could have it too."""
    within_ms: int
    text: Mapping[str, Text]


@dataclass(frozen=True, slots=True)
class Flood:
    """More new alarms than a person can follow: from its begin to its end one alarm names them all."""

    more_than: int
    within_ms: int
    until_fewer_than: int


@dataclass(frozen=True, slots=True)
class Rise:
    """So long after it was raised, while its condition holds, an alarm is at least so bad."""

    after_ms: int
    severity: Severity


@dataclass(frozen=True, slots=True)
class Step:
    """One moment of an example: what the device says at ``at_ms`` after the beginning."""

    at_ms: int
    values: Mapping[str, Scalar]
    event: bool = False
    device: str | None = None
    """Who says it; None: the device that the example is about."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A change that must come at ``at_ms``."""

    at_ms: int
    change: str
    """A `rules.alarms.Transition`."""
    device: str | None = None
    """Of the alarm; None: any."""
    state: str | None = None
    """The `rules.alarms.AlarmState` after it; None: any."""


@dataclass(frozen=True, slots=True)
class Example:
    """A rule's own test: these steps must give exactly these changes."""

    name: str
    steps: Sequence[Step]
    expect: Sequence[Expected]
    until_ms: int
    """How long to watch: the last step or expectation, or as the example says."""
    begin_ms: int
    """When it begins (Unix ms); its clock is UTC."""
    holidays: frozenset[date] = frozenset()
    usual: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """What was learnt before, by name of the term or of what stands for it; durations in seconds."""
    devices: tuple[Registered, ...] = ()
    """Those that are registered; the first of the rule's kind is whom it is about."""
    beside: tuple[str, ...] = ()
    """Other rules that are in force."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Exactly one of ``when``, ``silent_for_ms`` and ``flood`` is set."""

    id: str
    kind: str
    severity: Severity
    text: Mapping[str, Text]
    """By language, ``en`` and ``zh``."""
    file: str
    when: Condition | None = None
    clear: Condition | None = None
    """None: a telemetry rule clears when ``when`` is false; an event rule waits for a person."""
    cancel: Condition | None = None
    """Of an event rule: the device takes it back, which is shown and told and closes nothing."""
    silent_for_ms: int | None = None
    flood: Flood | None = None
    for_ms: int = 0
    latch: bool = False
    ack: Ack = Ack.DEFAULT
    per_track: bool = False
    drill: bool = False
    """Its alarms are tests, not fires."""
    suppressed_by: tuple[Cause, ...] = ()
    fold: Fold | None = None
    actions: tuple[Action, ...] = ()
    examples: tuple[Example, ...] = ()
    clear_for_ms: int = 0
    """Off-delay: what ends its alarms must hold so long."""
    clear_after_ms: int = 0
    """Of an event rule: so long after the last such event its alarms clear by themselves."""
    cooldown_ms: int = 0
    """After an alarm has left the board the rule raises none for this device for so long."""
    escalate: tuple[Rise, ...] = ()
    """Rising in time and in severity."""
    active: Hours | None = None
    """When it may raise; None: always. What is over is over at any hour."""
    safety: bool = False
    """Nothing may withhold its alarms: no hours, no cooldown, no shelf, not that it comes late."""
    version: str = ""
    """SHA-256 of what it means, without its examples and whatever file it stands in."""
    source: str = ""
    """Why it is as it is, and where its figures come from."""
    lets: tuple[Let, ...] = ()
    """Given by the rule, and those of the kind that it speaks of."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What it looks at to raise, to end and to take back."""
        return tuple(each for each in (self.when, self.clear, self.cancel) if each is not None)

    @property
    def terms(self) -> dict[str, Term]:
        """All terms that it rests on, by name, each after those that it rests on itself."""
        named = [term for let in self.lets for term in let.terms]
        return {
            term.name: term
            for term in (*named, *(term for condition in self.conditions for term in condition.terms))
        }

    @property
    def ack_required(self) -> bool:
        """Whether its alarms stay until a person has acknowledged them."""
        return self.ack_required_at(self.severity)

    def ack_required_at(self, severity: Severity) -> bool:
        """The same for an alarm that has risen to ``severity``."""
        if self.ack is Ack.DEFAULT:
            return severity.needs_acknowledgement
        return self.ack is Ack.REQUIRED

    def next_rise(self, severity: Severity) -> Rise | None:
        """What an alarm of this severity rises to next."""
        return next((rise for rise in self.escalate if rise.severity.rank < severity.rank), None)

    @property
    def waits_for_a_person(self) -> bool:
        """Nothing that a device says ends its alarms for certain, so a person may close them.

        An event may have no end, a track's end may be lost with the camera, a silent device may be gone.
        """
        return self.silent_for_ms is not None or (self.when is not None and self.when.uses_event)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force, and a hash of what they mean."""

    rules: tuple[Rule, ...]
    hash: str
    """SHA-256 of the parsed rules without their examples; a snapshot taken under another one is not
    replayed into."""
    calendar: Calendar = PLAIN
    """The clock and the holidays that `Rule.active` means; part of the hash where a rule has hours."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of each rule, by id."""
        return {rule.id: rule.version for rule in self.rules}

    def of_kind(self, kind: str) -> tuple[Rule, ...]:
        """The rules for one kind, in file order."""
        return tuple(rule for rule in self.rules if rule.kind == kind)
