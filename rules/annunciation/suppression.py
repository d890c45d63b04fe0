"""Suppression by cause: an alarm that another one explains is on the board, and nobody is told of it by itself.

``suppressed_by`` of a rule names other rules; while an alarm of one of them is active on the same device, or at the
same place, the rule's alarms are suppressed (ISA-18.2: suppressed by design). They come out by themselves when the last
cause goes. What an alarm orders is done all the same, and critical is never suppressed (`rules.alarms.Alarm.state`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from devices.faults import Fault, nearest
from devices.readings import Address
from rules.alarms import Alarm, Severity
from rules.definitions import Cause, Rule
from rules.language.entries import Entry
from rules.places import Level, Neighbourhood
from rules.state import State

CAUSES_MOST = 16
"""Causes of one rule."""


class Suppression:
    """What suppresses what."""

    def __init__(self, rules: Iterable[Rule], around: Neighbourhood) -> None:
        self._around = around
        self._causes: Mapping[str, Sequence[Cause]] = {
            rule.id: rule.suppressed_by for rule in rules if rule.suppressed_by
        }
        self._effects: dict[str, list[tuple[str, Level | None]]] = {}
        for effect, causes in self._causes.items():
            for cause in causes:
                self._effects.setdefault(cause.rule, []).append((effect, cause.same))

    def levels(self) -> Iterator[tuple[str, Level | None]]:
        """Each rule that is looked up, with the level that it is looked up by."""
        for effect, causes in self._causes.items():
            for cause in causes:
                yield effect, cause.same
                yield cause.rule, cause.same

    def cause_of(self, state: State, rule: str, address: Address) -> str | None:
        """Key of the alarm that explains an alarm of this rule and device; None if none stands."""
        for cause in self._causes.get(rule, ()):
            where = address if cause.same is None else self._around.place(address, cause.same)
            standing = state.standing.of(cause.rule, where) if where is not None else ()
            if standing:
                return min(standing)
        return None

    def effects(self, state: State, cause: Alarm) -> list[Alarm]:
        """Standing alarms that it may explain, in the order of their keys."""
        found: set[str] = set()
        for effect, same in self._effects.get(cause.rule, ()):
            where = cause.address if same is None else self._around.place(cause.address, same)
            if where is not None:
                found |= state.standing.of(effect, where)
        return [state.alarms[key] for key in sorted(found)]


def causes_first(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules in an order in which a message raises the cause before what it explains."""
    known = {rule.id: rule for rule in rules}
    ordered: dict[str, Rule] = {}
    for rule in rules:
        _put_after_causes(rule, known, ordered)
    return tuple(ordered.values())


def _put_after_causes(rule: Rule, known: Mapping[str, Rule], ordered: dict[str, Rule]) -> None:
    for cause in rule.suppressed_by:
        if cause.rule in known and cause.rule not in ordered:
            _put_after_causes(known[cause.rule], known, ordered)
    ordered.setdefault(rule.id, rule)


def read_causes(entry: Entry, severity: str | None) -> tuple[Cause, ...]:
    """``suppressed_by``: rule ids, or ``{rule, same}``; faults go into the entry."""
    listed = entry.fields.get("suppressed_by")
    if listed is None:
        return ()
    if severity == Severity.CRITICAL:
        entry.fault("suppressed_by", "critical is never suppressed: it is always told")
    if entry.fields.get("safety") == "true":
        entry.fault("suppressed_by", "a rule with `safety` is always told")
    if not isinstance(listed, list) or not 1 <= len(listed) <= CAUSES_MOST:
        entry.fault("suppressed_by", f"must be a list of 1 to {CAUSES_MOST} rule ids or {{rule: …, same: …}}")
        return ()
    causes = []
    for index, item in enumerate(listed):
        if isinstance(item, str):
            causes.append(Cause(item))
            continue
        below = entry.item("suppressed_by", index)
        below.known({"rule", "same"}, required=["rule"])
        rule = below.text("rule")
        same = below.word("same", [str(level) for level in Level])
        if rule is not None:
            causes.append(Cause(rule, Level(same) if same is not None else None))
    return tuple(causes)


def check_causes(rules: Sequence[Rule], entries: Mapping[str, Entry], faults: list[Fault]) -> None:
    """Refuse causes that are not there or of another kind, and rules that would suppress each other."""
    known = {rule.id: rule for rule in rules}
    for rule in rules:
        entry = entries[rule.id]
        for cause in rule.suppressed_by:
            found = known.get(cause.rule)
            if found is None:
                if not faults:  # else its rule may only have a fault of its own
                    near = nearest(cause.rule, known)
                    entry.fault(
                        "suppressed_by",
                        "no rule of this id in the files that are read",
                        value=cause.rule,
                        nearest=near,
                    )
            elif cause.same is None and found.kind != rule.kind:
                reason = f"is about {found.kind}, never about the same device; say `same:`"
                entry.fault("suppressed_by", reason, value=cause.rule)
        if _reaches(rule.id, rule, known):
            entry.fault("suppressed_by", "in a circle, so that nobody would be told", value=rule.id)


def _reaches(sought: str, rule: Rule, known: Mapping[str, Rule]) -> bool:
    """Whether a rule is, in the end, its own cause."""
    seen: set[str] = set()
    open_ = [cause.rule for cause in rule.suppressed_by]
    while open_:
        name = open_.pop()
        if name == sought:
            return True
        if name not in seen and name in known:
            seen.add(name)
            open_ += [cause.rule for cause in known[name].suppressed_by]
    return False
