"""Conditions over other devices of the same place: ``any``, ``count`` and ``all``.

``count(smoke and not test, same='floor', within='3m') >= 2`` looks at what the sensors of a floor last said. A device
is *marked* while such a condition holds for it, and so long after as ``within`` says; an event marks it from its moment
on. Marks are kept with the device that they are about, so a change there costs a look at the devices of the same place
and nothing else does. What has not been said counts as not so: a neighbour that is silent must not hold back an
alarm. A device without the place, or with nobody heard there for ``all``, has no value: unknown.

Nothing here judges: `Surroundings` tells whose points have changed, and the engine looks at their rules.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappush
from types import MappingProxyType

from devices.kinds import KINDS
from devices.readings import Address, Reading, Scalar
from rules.definitions import Condition, Points, Rule
from rules.language.calls import Call, Maker
from rules.language.guards import Guard, guard_of
from rules.places import Level, Neighbourhood, Place
from rules.standing import Marked
from rules.state import Deadline, Device, State
from rules.vocabulary import Point, Sort, Vocabulary

AROUND = "around:"
"""Begins the condition of a deadline at which a mark ends; the name of what is looked at follows."""

WITHIN_MOST_MS = 24 * 3_600_000
HOLDS = 0
"""The mark of a device for which the condition holds now; else the moment at which it last did (Unix ms)."""

Changed = tuple[Device, str]
"""A device, and the name of its term that has another value now."""


class What(StrEnum):
    """What is asked about the others."""

    ANY = "any"
    """Whether it is so of another device than this one."""
    COUNT = "count"
    """Of how many devices, this one included."""
    ALL = "all"
    """Whether it is so of every device that was ever heard, this one included."""


@dataclass(frozen=True, slots=True)
class Around:
    """A term about other devices; the engine keeps its value through `Surroundings`."""

    what: What
    point: Point
    kind: str
    """Of the devices looked at."""
    condition: Condition
    same: Level
    within_ms: int
    watched: str
    """What is looked at; the same for every term that looks at it."""

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Nothing that the device itself says."""
        return frozenset()

    @property
    def look_back_ms(self) -> int:
        """How long a mark lasts."""
        return self.within_ms

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """It is about others."""

    def value(self, marked: Marked, place: Place | None, address: Address) -> Scalar | None:
        """For one device, which stands there."""
        if place is None:
            return None
        found = marked.of(self.watched, place)
        match self.what:
            case What.ANY:
                return len(found) > (address in found)
            case What.COUNT:
                return len(found)
        heard = marked.heard.get((self.kind, place), 0)
        return len(found) == heard if heard else None


@dataclass(frozen=True, slots=True)
class Watch:
    """One condition that others look at."""

    name: str
    condition: Condition
    said: frozenset[str]
    """The points and event fields that it follows from."""
    within_ms: int
    levels: tuple[Level, ...]
    lookers: tuple[tuple[str, Around], ...]
    """Kinds that look, each with its term."""


class Surroundings:
    """Who looks at whom, for one rule set and registry."""

    def __init__(self, rules: Iterable[Rule], around: Neighbourhood) -> None:
        self._around = around
        self._terms: dict[str, dict[str, Around]] = {}
        for rule in rules:
            for term in rule.terms.values():
                if isinstance(term, Around):
                    self._terms.setdefault(rule.kind, {})[term.name] = term
        self._watches = _watches(self._terms)
        self.guards: Mapping[str, Guard] = {
            kind: guard_of([watch.condition for watch in watches]) for kind, watches in self._watches.items()
        }
        """By kind whose devices others look at: whether what they look for can be so of one that is not marked."""
        self._counted: dict[str, list[Level]] = {}
        for terms in self._terms.values():
            for term in terms.values():
                levels = self._counted.setdefault(term.kind, [])
                if term.what is What.ALL and term.same not in levels:
                    levels.append(term.same)

    def meet(self, state: State, device: Device) -> list[Changed]:
        """A device is heard for the first time."""
        changed: list[Changed] = []
        for level in self._counted.get(device.kind, ()):
            place = self._around.place(device.address, level)
            if place is not None:
                heard = state.around.heard
                heard[device.kind, place] = heard.get((device.kind, place), 0) + 1
                for watch in self._watches[device.kind]:
                    changed += self._tell(state, watch, level, place)
        self._settle(state, device)
        return changed + [
            (device, name) for name in self._terms.get(device.kind, ()) if name in device.points
        ]

    def notice(
        self, state: State, device: Device, names: Iterable[str], view: Points, moment: int
    ) -> list[Changed]:
        """What a device says, at ``moment`` (Unix ms), changes for those that look at it.

        ``names`` are the points or event fields that were said.
        """
        changed: list[Changed] = []
        watches = self._watches.get(device.kind)
        if watches is None or (not device.marks and not self.guards[device.kind](view)):
            return changed  # nearly every message
        for watch in watches:
            if watch.said.isdisjoint(names):
                continue
            before = device.marks.get(watch.name)
            after = _mark(watch, before, view, moment)
            if after is not None and after != HOLDS and after + watch.within_ms <= state.now:
                after = None
            if after == before:
                continue
            device.changed = True
            if after is None:
                changed += self._unmark(state, watch, device)
                continue
            device.marks[watch.name] = after
            if after != HOLDS:
                _arm(state, watch, device, after + watch.within_ms)
            if before is None:
                for level, place in self._places(watch, device.address):
                    state.around.add(watch.name, place, device.address)
                    changed += self._tell(state, watch, level, place)
        return changed

    def take(self, state: State, deadline: Deadline) -> list[Changed]:
        """The end of a mark has come, unless it was so again meanwhile."""
        due, _, address, condition = deadline
        name = condition.removeprefix(AROUND)
        device = state.devices.get(address)
        watches = self._watches.get(device.kind, ()) if device is not None else ()
        watch = next((each for each in watches if each.name == name), None)
        if device is None or watch is None:
            return []
        state.around.waiting.discard((name, address))
        mark = device.marks.get(name)
        if mark is None or mark == HOLDS:
            return []
        if mark + watch.within_ms > due:
            _arm(state, watch, device, mark + watch.within_ms)
            return []
        device.changed = True
        return self._unmark(state, watch, device)

    def refresh(self, state: State) -> None:
        """Under changed rules: mark anew what holds by what was last said."""
        for device in state.devices.values():
            watches = self._watches.get(device.kind, ())
            kept = {watch.name: device.marks[watch.name] for watch in watches if watch.name in device.marks}
            for watch in watches:
                truth = device.last_seen and watch.condition.evaluate(device.points)
                if truth and not watch.condition.uses_event:
                    kept[watch.name] = HOLDS
            device.changed |= kept != device.marks
            device.marks = kept
        self.derive(state)

    def derive(self, state: State) -> None:
        """Build the index, the points that follow from it and the deadlines from the devices."""
        state.around = Marked()
        if not self._terms:
            return
        for device in state.devices.values():
            for level in self._counted.get(device.kind, ()) if device.last_seen else ():
                place = self._around.place(device.address, level)
                if place is not None:
                    heard = state.around.heard
                    heard[device.kind, place] = heard.get((device.kind, place), 0) + 1
            for watch in self._watches.get(device.kind, ()) if device.marks else ():
                mark = device.marks.get(watch.name)
                if mark is None:
                    continue
                for _, place in self._places(watch, device.address):
                    state.around.add(watch.name, place, device.address)
                if mark != HOLDS:
                    _arm(state, watch, device, mark + watch.within_ms)
        for device in state.devices.values():
            self._settle(state, device)

    def _settle(self, state: State, device: Device) -> None:
        """Give a device its terms about others."""
        for term in self._terms.get(device.kind, {}).values():
            place = self._around.place(device.address, term.same)
            _set(device, term.name, term.value(state.around, place, device.address))

    def _unmark(self, state: State, watch: Watch, device: Device) -> list[Changed]:
        changed: list[Changed] = []
        if device.marks.pop(watch.name, None) is not None:
            for level, place in self._places(watch, device.address):
                state.around.remove(watch.name, place, device.address)
                changed += self._tell(state, watch, level, place)
        return changed

    def _tell(self, state: State, watch: Watch, level: Level, place: Place) -> Iterator[Changed]:
        """Bring the points of those that look at this place up, by kind and address."""
        for kind, term in watch.lookers:
            if term.same is not level:
                continue
            for address in self._around.members(place, level, kind):
                device = state.devices.get(address)
                if device is not None and _set(device, term.name, term.value(state.around, place, address)):
                    yield device, term.name

    def _places(self, watch: Watch, address: Address) -> Iterator[tuple[Level, Place]]:
        for level in watch.levels:
            place = self._around.place(address, level)
            if place is not None:
                yield level, place


def _watches(terms: Mapping[str, Mapping[str, Around]]) -> dict[str, tuple[Watch, ...]]:
    """What is looked at, by the kind that it is about."""
    lookers: dict[tuple[str, str], list[tuple[str, Around]]] = {}
    for looking, named in terms.items():
        for term in named.values():
            lookers.setdefault((term.kind, term.watched), []).append((looking, term))
    found: dict[str, list[Watch]] = {}
    for (kind, name), looking_at in lookers.items():
        _, first = looking_at[0]
        levels = tuple(level for level in Level if any(term.same is level for _, term in looking_at))
        rates = KINDS[kind].rates
        said = frozenset(rates[each].of if each in rates else each for each in first.condition.names)
        watch = Watch(name, first.condition, said, first.within_ms, levels, tuple(looking_at))
        found.setdefault(kind, []).append(watch)
    return {kind: tuple(watches) for kind, watches in found.items()}


def _mark(watch: Watch, before: int | None, view: Points, moment: int) -> int | None:
    truth = watch.condition.evaluate(view)
    if watch.condition.uses_event:
        return max(moment, before or moment) if truth else before
    if truth:
        return HOLDS
    if before == HOLDS:
        return moment if watch.within_ms else None
    return before


def _set(device: Device, name: str, value: Scalar | None) -> bool:
    """Whether the point has another value than before."""
    before = device.points.get(name)
    if value is None:
        device.points.pop(name, None)
    else:
        device.points[name] = value
    return value != before


def _arm(state: State, watch: Watch, device: Device, due: int) -> None:
    pending = (watch.name, device.address)
    if pending not in state.around.waiting:  # one that comes too early looks again
        state.around.waiting.add(pending)
        condition = AROUND + watch.name
        heappush(state.deadlines, (due, f"{condition} {device.address}", device.address, condition))


def _maker(what: What) -> Maker:
    sort = Sort.NUMBER if what is What.COUNT else Sort.BOOLEAN

    def make(call: Call) -> Around:
        kind = _kind(call)
        vocabulary = Vocabulary.of(KINDS[kind])
        condition = call.condition_about(0, vocabulary)
        same = call.keyword("same", [str(level) for level in Level])
        within_ms = call.keyword_duration("within", most_ms=WITHIN_MOST_MS)
        if same is None:
            raise call.error(None, f"{call.name} looks at other devices: say which, same='room'")
        if condition.uses_event and within_ms is None:
            raise call.error(0, "an event is over at once: say how long it counts, within='3m'")
        if any(vocabulary.points[name].private for name in condition.names):
            raise call.error(0, "tells of a person's daily life; no rule about others may look at it")
        point = Point(call.done(), sort, least=0 if what is What.COUNT else None)
        watched = f"{kind}: {ast.unparse(condition.tree)} within {within_ms or 0}"
        return Around(what, point, kind, condition, Level(same), within_ms or 0, watched)

    return make


def _kind(call: Call) -> str:
    """The kind that is said, or this one, or the only one that has such points."""
    own = call.vocabulary.kind.name
    wired = [name for name, kind in KINDS.items() if kind.on_wire]
    said = call.keyword("kind", wired)
    if said is not None:
        return said
    names = call.names(0)
    having = [name for name in wired if names <= Vocabulary.of(KINDS[name]).points.keys()]
    return own if own in having or len(having) != 1 else having[0]


FUNCTIONS: Mapping[str, Maker] = MappingProxyType({str(what): _maker(what) for what in What})
