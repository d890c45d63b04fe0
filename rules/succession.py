"""From one rule set to the next, rule by rule, in a state that goes on.

A rule with the same id and the same version is the same rule: its alarms, its running delays, everything that it
remembers go on untouched. Alarms of a rule that has changed or is gone stand until a person closes them and say so
(`Alarm.superseded`); nothing pages again merely because a rule was written anew. Its running delays begin anew, and
what it finds in what was last said is raised.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from rules.alarms import Superseded
from rules.board import Board
from rules.definitions import Rule, RuleSet
from rules.functions.around import Surroundings
from rules.judge import Judge
from rules.plans import Plan
from rules.state import Device, State
from rules.watches import look_anew, watch


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """What differs between two rule sets: rule ids, in the order of their files."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def fresh(self) -> frozenset[str]:
        """Those that were not judged by until now."""
        return frozenset((*self.added, *self.changed))


def changes_between(before: RuleSet, after: RuleSet) -> RuleChanges:
    """What has to happen to ``before`` for it to become ``after``."""
    old, new = before.versions, after.versions
    return RuleChanges(
        tuple(rule for rule in new if rule not in old),
        tuple(rule for rule in new if rule in old and old[rule] != new[rule]),
        tuple(rule for rule in old if rule not in new),
    )


def retire(state: State, before: RuleSet, after: RuleSet, board: Board, now: int) -> RuleChanges:
    """Fit ``state`` to ``after``: mark the alarms that lost their rule, forget the delays of other versions.

    A changed rule takes its raised conditions over, so that what still holds is not raised again. Judging is left
    to `rejudge`, the deadlines to the caller.
    """
    changes = changes_between(before, after)
    gone = frozenset(changes.removed) | _reshaped(before, after, changes)
    changed = frozenset(changes.changed) - gone
    for device in state.devices.values():
        if device.ongoing or device.silences or device.cooling or device.past:
            _forget(device, gone, changed)
    marks = dict.fromkeys(changes.changed, Superseded.CHANGED) | dict.fromkeys(
        changes.removed, Superseded.REMOVED
    )
    for alarm in list(state.alarms.values()):
        if (mark := marks.get(alarm.rule)) is not None:
            board.supersede(state, alarm, mark, now)
    return changes


def rejudge(
    state: State,
    plans: Mapping[str, Plan],
    judge: Judge,
    around: Surroundings,
    now: int,
    among: Container[str] | None,
) -> None:
    """Apply changed rules (``among`` them, or all) at ``now`` (Unix ms) to what was last said; ``plans`` by kind."""
    state.now = max(now, state.now)
    state.standing.well.clear()
    around.refresh(state)
    for device in list(state.devices.values()):
        plan = plans[device.kind]
        look_anew(state, device, plan, state.now)
        for condition, ongoing in list(device.ongoing.items()):
            if ongoing.due is not None and (among is None or ongoing.rule in among):
                del device.ongoing[condition]
        for rule, evaluate in plan.telemetry:
            if among is not None and rule.id not in among:
                continue
            if rule.id not in device.ongoing and device.last_seen and evaluate(device.points):
                judge.begin(state, device, rule, rule.id, None, None, state.now)
        watch(state, device, plan, state.now)


def _reshaped(before: RuleSet, after: RuleSet, changes: RuleChanges) -> frozenset[str]:
    """Changed rules that look at something else altogether: a condition of the one means nothing to the other."""
    old = {rule.id: _shape(rule) for rule in before.rules}
    new = {rule.id: _shape(rule) for rule in after.rules}
    return frozenset(rule for rule in changes.changed if old[rule] != new[rule])


def _shape(rule: Rule) -> tuple[str, bool, bool, bool]:
    of_event = rule.when is not None and rule.when.uses_event
    return rule.kind, of_event, rule.per_track, rule.silent_for_ms is not None


def _forget(device: Device, gone: frozenset[str], changed: frozenset[str]) -> None:
    """A shelf stays: it ends by itself, and an alarm hangs on it."""
    for condition, ongoing in list(device.ongoing.items()):
        if ongoing.rule in gone or (ongoing.rule in changed and ongoing.due is not None):
            del device.ongoing[condition]
            device.changed = True
        elif ongoing.rule in changed:
            ongoing.escalates = ongoing.ends = ongoing.over_since = None
            device.changed = True
    for remembered in (device.cooling, device.past):
        for rule in [rule for rule in remembered if rule in gone or rule in changed]:
            remembered.pop(rule)
            device.changed = True
    if not gone.isdisjoint(device.silences):
        device.silences = tuple(rule for rule in device.silences if rule not in gone)
        device.changed = True
