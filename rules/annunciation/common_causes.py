"""Common causes: when a whole shed, unit or building has the same alarm together, one alarm names them all.

A rule with ``fold`` watches its own alarms by place. Where enough of them come within a short time, and they are a
large enough share of the devices there that could have it too, a fold is raised: an alarm of the gateway about the
place, with every member's key. The members are suppressed and say into what they are folded. Further ones join,
those that end leave, and when fewer than ``least`` are left the fold ends and the rest stand alone again.

Nothing here ends an alarm: a fold only says what is told by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from devices.kinds.traits import Kind
from devices.readings import Address, Scalar, parts_of
from rules.alarms import Alarm, alarm_key
from rules.awaited import since
from rules.definitions import Fold, Rule, Text
from rules.language.entries import Entry
from rules.language.texts import EVERYWHERE, Language, read_texts, unheard_note
from rules.places import Level, Neighbourhood, Place, level_of, name_of
from rules.standing import Well
from rules.state import Device, State
from rules.vocabulary import Point, Sort, Vocabulary

UNHEARD: Place = "unheard"
"""Where those are together that were registered and never heard: it is the installer who is missed, not the mains."""

LEAST_LEAST, LEAST_DEFAULT, LEAST_MOST = 2, 3, 1_000
WITHIN_DEFAULT_MS = 120_000
SHARE_DEFAULT = 0.6

MARGIN, LOOKED_AT = 4, 64
"""So many times as many that are well as it takes, and so many more, are looked for: they spare the next looks."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a fold says of its members."""

    place: dict[str, str]
    values: dict[str, Scalar]
    text: dict[str, str]


class Folds:
    """Which alarms belong together."""

    def __init__(self, rules: Iterable[Rule], around: Neighbourhood, gateway: Address) -> None:
        self._around = around
        self._gateway = gateway
        self._folds = {rule.id: (rule, rule.fold) for rule in rules if rule.fold is not None}

    def levels(self) -> Iterator[tuple[str, Level]]:
        """Each rule that is looked up, with the levels that it is looked up by."""
        for name, (_, fold) in self._folds.items():
            for level in fold.same:
                yield name, level

    def key(self, rule: str, place: Place) -> str:
        """Of the alarm that folds this rule at a place."""
        return alarm_key(rule, self._gateway, place)

    def placed(self, rule: str, address: Address) -> Iterator[tuple[Level, Place]]:
        """Where an alarm of this device may be folded, the farthest place first."""
        if rule in self._folds:
            for level in reversed(self._folds[rule][1].same):
                place = self._around.place(address, level)
                if place is not None:
                    yield level, place

    def gathering(
        self, state: State, come: Alarm, level: Level, place: Place, at: int
    ) -> tuple[Alarm, ...] | None:
        """What stands already and is to be folded with this alarm, which has just come; None: no fold is due."""
        rule, fold = self._folds[come.rule]
        standing = state.standing.of(rule.id, place)
        if len(standing) + 1 < fold.least or self._are_well(state, come, place, at):
            return None
        fresh = tuple(
            alarm
            for key in sorted(standing)
            if _is_fresh(state, fold, alarm := state.alarms[key], at) and key != come.key
        )
        if len(fresh) + 1 < fold.least or not self._is_share(state, come, (level, place), fresh, at):
            return None
        return fresh

    def unheard(self, state: State, come: Alarm, at: int) -> tuple[Alarm, ...] | None:
        """The same of alarms about devices that were never heard, wherever they stand."""
        if come.rule not in self._folds:
            return None
        rule, fold = self._folds[come.rule]
        fresh = tuple(
            alarm
            for _, alarm in sorted(state.alarms.items())
            if alarm.rule == rule.id
            and alarm.active
            and alarm.members is None
            and alarm.raised_at > at - fold.within_ms
            and alarm.key != come.key
            and _is_unheard(state, alarm.address)
        )
        return fresh if len(fresh) + 1 >= fold.least else None

    def reach(self, state: State, come: Alarm, others: Sequence[Alarm], farthest: Place, at: int) -> Place:
        """The nearest place that holds all of these: what is silent in one building alone is not the site's."""
        nearest, kind = farthest, come.kind
        for level, place in self.placed(come.rule, come.address):
            smaller = len(self._around.members(place, level, kind)) < self._count(nearest, kind)
            if smaller and self.gathering(state, come, level, place, at) == others:
                nearest = place
        return nearest

    def is_spread(self, state: State, come: Alarm, place: Place, at: int) -> bool:
        """Whether this alarm can have no fold nearer than ``place``: what is fresh there is elsewhere, too."""
        rule, fold = self._folds[come.rule]
        standing, all_of_them = state.standing.of(rule.id, place), self._count(place, come.kind)
        for level, nearer in self.placed(come.rule, come.address):
            if len(self._around.members(nearer, level, come.kind)) < all_of_them:
                near = state.standing.of(rule.id, nearer)
                if not any(
                    key not in near and key != come.key and _is_fresh(state, fold, state.alarms[key], at)
                    for key in standing
                ):
                    return False
        return True

    def _count(self, place: Place, kind: str) -> int:
        return len(self._around.members(place, level_of(place), kind))

    def _are_well(self, state: State, come: Alarm, place: Place, at: int) -> bool:
        """Whether so many were well at the last look, and still are, that all that stands is no share of them."""
        share, standing = self._folds[come.rule][1].share, state.standing.of(come.rule, place)
        known = state.standing.well.get((come.rule, place))
        if known is None or at >= known.until:
            return False
        count = len(standing) + 1
        well = len(known.keys) - len(known.keys & standing) - (come.key in known.keys)
        return count < share * (count + well)

    def _is_share(
        self, state: State, come: Alarm, where: tuple[Level, Place], fresh: tuple[Alarm, ...], at: int
    ) -> bool:
        """Whether the others there that are well are few enough; asks no more of them than it must."""
        rule, fold = self._folds[come.rule]
        level, place = where
        count, well = len(fresh) + 1, dict[str, int]()
        too_many = count / fold.share - count
        standing = state.standing.of(rule.id, place)
        for device in self._heard(state, level, place, rule.kind):
            key = alarm_key(rule.id, device.address)
            if key == come.key or key in standing:
                continue
            # A device that has not spoken lately may be about to fall silent, too.
            if device.last_seen > at - fold.within_ms if rule.silent_for_ms else not device.silences:
                well[key] = device.last_seen
                if len(well) > MARGIN * too_many + LOOKED_AT:
                    break
        if count >= fold.share * (count + len(well)):
            return True
        if rule.silent_for_ms:  # those that spoke last are well for longest
            some = nlargest(int(too_many + len(well)) // 2 + 1, well, key=well.__getitem__)
            state.standing.well[rule.id, place] = Well(frozenset(some), well[some[-1]] + fold.within_ms)
        return False

    def _heard(self, state: State, level: Level, place: Place, kind: str) -> Iterator[Device]:
        """The devices of a kind there that were ever heard; on the site also those that nobody registered."""
        if level is Level.SITE:
            yield from (each for each in state.devices.values() if each.kind == kind and each.last_seen)
            return
        for address in self._around.members(place, level, kind):
            device = state.devices.get(address)
            if device is not None and device.last_seen:
                yield device

    def least(self, rule: str) -> int:
        """With fewer members a fold ends; of a rule that folds no more, the last."""
        return self._folds[rule][1].least if rule in self._folds else 1

    def told(self, state: State, rule_id: str, place: Place, count: int) -> Telling:
        """What a fold of so many says."""
        rule, fold = self._folds[rule_id]
        if place == UNHEARD:
            return self._told_unheard(state, rule, fold, count)
        level = level_of(place)
        where = self._around.told(place, level, rule.kind)
        heard = sum(1 for _ in self._heard(state, level, place, rule.kind))
        values: dict[str, Scalar] = {"count": count, "heard": heard}
        if level is Level.GROUP:
            values["group"] = name_of(place)
        return Telling(where, values, rendered(fold.text, self._gateway, where, values))

    def _told_unheard(self, state: State, rule: Rule, fold: Fold, count: int) -> Telling:
        expected = sum(each.kind == rule.kind and bool(since(each)) for each in state.devices.values())
        values: dict[str, Scalar] = {"count": count, "heard": expected}
        text = rendered(fold.text, self._gateway, {}, values)
        return Telling(
            {}, values, {language: each + unheard_note(Language(language)) for language, each in text.items()}
        )


def _is_fresh(state: State, fold: Fold, alarm: Alarm, at: int) -> bool:
    """Whether it came lately, and its device was heard before."""
    return alarm.raised_at > at - fold.within_ms and not _is_unheard(state, alarm.address)


def _is_unheard(state: State, address: Address) -> bool:
    device = state.devices.get(address)
    return device is not None and bool(device.awaited_since) and not device.last_seen


def rendered(
    text: Mapping[str, Text], gateway: Address, place: Mapping[str, str], values: Mapping[str, Scalar]
) -> dict[str, str]:
    """The text of an alarm of the gateway about a place."""
    site, kind, name = parts_of(gateway)
    names: dict[str, Scalar] = {**place, **values, "device": name, "kind": kind, "site": site}
    names[EVERYWHERE] = not place
    if "floor" in place:
        names["place_floor"] = place["floor"]
    return {language: each.render(names) for language, each in text.items()}


def read_fold(entry: Entry, kind: Kind, *, uses_event: bool) -> Fold | None:
    """``fold`` of a rule; faults go into the entry."""
    below = entry.entry("fold")
    if below is None:
        return None
    below.known({"same", "least", "share", "within", "text"}, required=["same", "text"])
    same = below.words("same", [str(level) for level in Level])
    least = below.whole("least", LEAST_LEAST, LEAST_MOST) or LEAST_DEFAULT
    share = below.number("share", 0.01, 1.0) or SHARE_DEFAULT
    within_ms = below.duration("within", least_ms=1_000) or WITHIN_DEFAULT_MS
    if not kind.on_wire:
        entry.fault("fold", f"{kind.name} stands at no place")
    if uses_event:
        entry.fault("fold", "is for what devices are, not for events and tracks")
    if entry.fields.get("safety") == "true":
        entry.fault("fold", "a rule with `safety` is always told by itself")
    numbers = {name: Point(name, Sort.NUMBER) for name in ("count", "heard")}
    vocabulary = Vocabulary(kind, {**numbers, "group": Point("group", Sort.TEXT)})
    text = read_texts(below, vocabulary, events=False)
    levels = tuple(level for level in Level if level in same)
    return Fold(levels, least, share, within_ms, text)
