"""Annunciation: of which alarms people are told by themselves, and which stand quietly on the board.

Called by `rules.board` at each change of what stands. It sets facts of alarms and nothing else: what explains them
(`suppression`), what tells of them together with others (`common_causes`, `floods`), until when they are shelved
(`chattering`). It never ends an alarm and withholds no order, and a critical alarm is never quiet, whatever its facts
(`rules.alarms.Alarm.state`).
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappush

from msgspec.structs import replace

from devices.readings import Address, address_of
from rules.alarms import Alarm, Severity, Transition, alarm_key
from rules.annunciation.chattering import SHELF_MS, chatters, may_shelve
from rules.annunciation.common_causes import UNHEARD, Folds, Telling
from rules.annunciation.floods import KIND, Floods
from rules.annunciation.suppression import Suppression
from rules.definitions import Rule
from rules.places import Level, Neighbourhood, Place
from rules.standing import Standing
from rules.state import Deadline, Device, State
from rules.stays import begin_stay, come_again

FOLD, FLOOD, SHELF = "fold:", "flood:", "shelf:"
"""Begin the conditions of our deadlines; the key of an alarm follows."""
DEADLINES = (FOLD, FLOOD, SHELF)

TOLD_AFTER_MS = 5_000
"""Members come and go by the hundred: what became of them is told together, so long after the first."""

Put = Callable[[State, Transition, Alarm, int], None]
"""Puts a changed alarm onto the board and tells of it."""


class Annunciation:
    """What is quiet, and why."""

    def __init__(self, rules: Sequence[Rule], around: Neighbourhood, site: str, node: str, put: Put) -> None:
        self._site = site
        self._node = node
        self._rules = {rule.id: rule for rule in rules}
        self._gateway = gateway = address_of(site, KIND, node)
        self._put = put
        self._around = around
        self._suppression = Suppression(rules, around)
        self._folds = Folds(rules, around, gateway)
        self._floods = Floods(rules, gateway)
        self._gone: list[tuple[Alarm, int]] = []
        self._levels: dict[str, list[Level | None]] = {}
        for rule, level in (*self._suppression.levels(), *self._folds.levels()):
            levels = self._levels.setdefault(rule, [])
            if level not in levels:
                levels.append(level)

    # What the board tells us

    def announce(self, state: State, device: Device, rule: Rule, alarm: Alarm, at: int) -> Alarm:
        """An alarm that has come (back), with what makes it quiet; a fold that it brings about is put first."""
        if rule.safety:
            return replace(alarm, suppressed_by=None, folded_into=None, shelved_until=None)
        alarm = self._shelve(state, device, rule, alarm, at)
        alarm = replace(alarm, suppressed_by=self._suppression.cause_of(state, rule.id, device.address))
        alarm = self._fold(state, device, rule, alarm, at)
        alarm = self._flood(state, alarm, at)
        if alarm.version == 1 and not alarm.annunciated:
            alarm = replace(alarm, ack_required=False)  # of what nobody is told nobody need acknowledge
        return alarm

    def note(self, state: State, before: Alarm | None, after: Alarm) -> None:
        """Keep the indexes up with what stands."""
        if before is not None and before.active:
            state.standing.remove(before.key, before.rule, self._wheres(before), before.folded_into)
        if after.active and after.on_board:
            state.standing.add(after.key, after.rule, self._wheres(after), after.folded_into)

    def came(self, state: State, alarm: Alarm, at: int) -> None:
        """It stands now: what it explains is suppressed."""
        for each in self._suppression.effects(state, alarm):
            if each.suppressed_by is None and each.severity is not Severity.CRITICAL:
                self._change(state, replace(each, suppressed_by=alarm.key), at)

    def went(self, before: Alarm, at: int) -> None:
        """It has ended; what follows waits for `settle`, for what it explained may end by the same message."""
        self._gone.append((before, at))

    def settle(self, state: State) -> None:
        """An input or a deadline has been judged: what ended alarms explained, and what is left of folds, comes out."""
        while self._gone:
            before, at = self._gone.pop(0)
            for each in self._suppression.effects(state, before):
                if each.suppressed_by == before.key:
                    cause = self._suppression.cause_of(state, each.rule, each.address)
                    if cause != before.key:
                        self._change(state, replace(each, suppressed_by=cause), at)
            if before.members is not None:
                self._release(state, before, at)
            if before.folded_into is not None:
                self._shrunk(state, before.folded_into, at)

    # Deadlines

    def take(self, state: State, deadline: Deadline) -> None:
        """One of `DEADLINES` has come."""
        due, _, address, condition = deadline
        if condition.startswith(SHELF):
            self._unshelve(state, address, condition.removeprefix(SHELF), due)
        elif condition.startswith(FOLD):
            key = condition.removeprefix(FOLD)
            if state.folds_due.get(key) == due:
                del state.folds_due[key]
                self._tell_members(state, key, due)
        elif (flood := state.alarms.get(condition.removeprefix(FLOOD))) is not None and flood.active:
            if self._floods.rule is None or (ends_at := self._floods.ends_at(state)) <= due:
                self._end(state, flood, due)
            else:
                self._arm(state, ends_at, FLOOD, flood.key)

    def index(self, state: State) -> None:
        """Build the indexes from the alarms."""
        state.standing = Standing()
        for alarm in state.alarms.values():
            self.note(state, None, alarm)

    def derive(self, state: State) -> None:
        """Build the indexes and the deadlines from the rest of the state."""
        self.index(state)
        for alarm in state.alarms.values():
            if alarm.active and self._is_flood(alarm):
                self._arm(state, self._floods.ends_at(state), FLOOD, alarm.key)
        for key, due in state.folds_due.items():
            self._arm(state, due, FOLD, key)
        for device in state.devices.values():
            for name, until in device.shelved.items():
                _arm_shelf(state, device, name, until)

    def rejudge(self, state: State, now: int) -> None:
        """Under changed rules: what no rule suppresses or folds any more comes out."""
        for alarm in list(state.alarms.values()):
            standing = state.alarms.get(alarm.key)
            if standing is None or not standing.active:
                continue
            if standing.members is not None:
                rule = self._rules.get(standing.rule)
                if rule is None or (rule.fold is None and rule.flood is None):
                    self._end(state, standing, now)
                continue
            cause = standing.suppressed_by and self._suppression.cause_of(state, alarm.rule, alarm.address)
            fold = self._by_id(state, standing.folded_into)
            folded_into = fold.id if fold is not None and fold.active else None
            if (cause, folded_into) != (standing.suppressed_by, standing.folded_into):
                self._change(state, replace(standing, suppressed_by=cause, folded_into=folded_into), now)

    # Shelving

    def _shelve(self, state: State, device: Device, rule: Rule, alarm: Alarm, at: int) -> Alarm:
        often = chatters(state, device, rule, at)
        until = device.shelved.get(rule.id)
        if until is None and often and may_shelve(alarm.severity) and not rule.safety:
            until = device.shelved[rule.id] = at + SHELF_MS
            _arm_shelf(state, device, rule.id, until)
        device.changed = True
        return replace(alarm, chattering=often or until is not None, shelved_until=until)

    def _unshelve(self, state: State, address: Address, name: str, due: int) -> None:
        device = state.devices.get(address)
        if device is None or device.shelved.get(name) != due:
            return
        del device.shelved[name]
        device.changed = True
        alarm = state.alarms.get(alarm_key(name, address))
        if alarm is not None and alarm.shelved_until is not None:
            self._change(state, replace(alarm, shelved_until=None), due)

    # Folding

    def _fold(self, state: State, device: Device, rule: Rule, alarm: Alarm, at: int) -> Alarm:
        """Into the fold of the farthest place that has one, or is due one by this alarm: no farther than it reaches."""
        folds = self._folds
        if device.awaited_since and not device.last_seen:
            joined = self._joined(state, rule, alarm, UNHEARD, at)
            if joined is None and (others := folds.unheard(state, alarm, at)) is not None:
                joined = self._gathered(state, rule, alarm, UNHEARD, others, at)
            return joined or alarm
        for level, farthest in folds.placed(rule.id, alarm.address):
            place, others = farthest, None
            if not self._stands(state, rule, farthest) or not folds.is_spread(state, alarm, farthest, at):
                others = folds.gathering(state, alarm, level, farthest, at)
            if others is not None:
                place = folds.reach(state, alarm, others, farthest, at)
            joined = self._joined(state, rule, alarm, place, at)
            if joined is None and others is not None:
                joined = self._gathered(state, rule, alarm, place, others, at)
            if joined is not None:
                return joined
        return alarm

    def _stands(self, state: State, rule: Rule, place: Place) -> Alarm | None:
        fold = state.alarms.get(self._folds.key(rule.id, place))
        return fold if fold is not None and fold.active else None

    def _joined(self, state: State, rule: Rule, alarm: Alarm, place: Place, at: int) -> Alarm | None:
        """Into the fold that stands at a place, if one does."""
        fold = self._stands(state, rule, place)
        if fold is None:
            return None
        self._tell_later(state, fold, at)
        return replace(alarm, folded_into=fold.id)

    def _gathered(
        self, state: State, rule: Rule, alarm: Alarm, place: Place, others: Sequence[Alarm], at: int
    ) -> Alarm:
        """Into the fold that it brings about together with others."""
        telling = self._folds.told(state, rule.id, place, len(others) + 1)
        fold = self._raise_fold(state, rule, place, alarm, others, telling, at)
        for each in others:
            self._change(state, replace(each, folded_into=fold.id), at)
        for fold_id in sorted({each.folded_into for each in others if each.folded_into is not None}):
            self._shrunk(state, fold_id, at)
        return replace(alarm, folded_into=fold.id)

    def _flood(self, state: State, alarm: Alarm, at: int) -> Alarm:
        """Into the flood, if there is one or this alarm is one too many."""
        rule = self._floods.rule
        if rule is None or alarm.drill or not alarm.annunciated:
            return alarm
        many = self._floods.count(state, at)
        standing = state.alarms.get(alarm_key(rule.id, self._gateway))
        if standing is not None and standing.active and not self._always_tells(alarm):
            self._tell_later(state, standing, at)
            return replace(alarm, folded_into=standing.id)
        if not many or self._always_tells(alarm):
            return alarm
        flood = self._raise_fold(state, rule, None, alarm, (), self._floods.told([alarm]), at)
        self._arm(state, self._floods.ends_at(state), FLOOD, flood.key)
        return replace(alarm, folded_into=flood.id)

    def _raise_fold(
        self,
        state: State,
        rule: Rule,
        place: Place | None,
        come: Alarm,
        others: Sequence[Alarm],
        telling: Telling,
        at: int,
    ) -> Alarm:
        key = alarm_key(rule.id, self._gateway, place)
        standing = state.alarms.get(key)
        members = tuple(sorted([come.key, *(each.key for each in others)]))
        if standing is None:
            fold = begin_stay(
                state, rule, key, self._gateway, at, site=self._site, node=self._node, track=place
            )
        else:
            fold = come_again(standing, rule, at)
        fold = _with(fold, members, telling)
        if place is not None:
            fold = self._flood(state, fold, at)
        self._put(state, Transition.RAISED if standing is None else Transition.RERAISED, fold, at)
        return fold

    def _shrunk(self, state: State, fold_id: str, at: int) -> None:
        """Members have left a fold."""
        fold = self._by_id(state, fold_id)
        if fold is None or not fold.active:
            return
        if not self._is_flood(fold) and state.standing.count(fold.id) < self._folds.least(fold.rule):
            self._end(state, fold, at)
        else:
            self._tell_later(state, fold, at)

    def _end(self, state: State, fold: Alarm, at: int) -> None:
        """What is still in it comes out; then it is over."""
        self._release(state, fold, at)
        ended = replace(
            fold,
            version=fold.version + 1,
            active=False,
            cleared_at=at,
            members=(),
            suppressed_by=None,
            folded_into=None,
        )
        self._put(state, Transition.CLEARED, ended, at)
        self.went(fold, at)

    def _release(self, state: State, fold: Alarm, at: int) -> None:
        state.folds_due.pop(fold.key, None)
        for key in state.standing.members(fold.id):
            self._change(state, replace(state.alarms[key], folded_into=None), at)

    def _tell_later(self, state: State, fold: Alarm, at: int) -> None:
        if fold.key not in state.folds_due:
            due = state.folds_due[fold.key] = at + TOLD_AFTER_MS
            self._arm(state, due, FOLD, fold.key)

    def _tell_members(self, state: State, key: str, at: int) -> None:
        fold = state.alarms.get(key)
        if fold is None or not fold.active:
            return
        members = tuple(state.standing.members(fold.id))
        if members == fold.members:
            return
        if self._is_flood(fold):
            telling = self._floods.told(state.alarms[member] for member in members)
        else:
            telling = self._folds.told(state, fold.rule, fold.track or "", len(members))
        self._put(
            state, Transition.CHANGED, replace(_with(fold, members, telling), version=fold.version + 1), at
        )

    # What all of them need

    def _change(self, state: State, alarm: Alarm, at: int) -> None:
        """Told once more with other facts; what comes out needs its acknowledgement again."""
        rule = self._rules.get(alarm.rule)
        ack = alarm.ack_required or (
            rule is not None and rule.ack_required_at(alarm.severity) and alarm.annunciated
        )
        self._put(state, Transition.CHANGED, replace(alarm, version=alarm.version + 1, ack_required=ack), at)

    def _always_tells(self, alarm: Alarm) -> bool:
        rule = self._rules.get(alarm.rule)
        return rule is not None and rule.safety

    def _is_flood(self, alarm: Alarm) -> bool:
        return alarm.members is not None and alarm.track is None

    @staticmethod
    def _by_id(state: State, alarm_id: str | None) -> Alarm | None:
        key = None if alarm_id is None else state.keys.get(alarm_id)
        return None if key is None else state.alarms.get(key)

    def _wheres(self, alarm: Alarm) -> Iterator[str]:
        """Where it is looked up."""
        for level in self._levels.get(alarm.rule, ()) if alarm.members is None else ():
            where = alarm.address if level is None else self._around.place(alarm.address, level)
            if where is not None:
                yield where

    def _arm(self, state: State, due: int, what: str, key: str) -> None:
        heappush(state.deadlines, (due, what + key, self._gateway, what + key))


def _arm_shelf(state: State, device: Device, name: str, until: int) -> None:
    heappush(state.deadlines, (until, SHELF + alarm_key(name, device.address), device.address, SHELF + name))


def _with(fold: Alarm, members: tuple[str, ...], telling: Telling) -> Alarm:
    return replace(fold, members=members, place=telling.place, values=telling.values, text=telling.text)
