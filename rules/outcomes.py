"""What came of a rule over a time: how often raised and cleared, first and last, orders; and how two versions differ.

Filled from the decisions of an engine that replays history. Bounded: of each rule at most `SPELLS_MOST` spells are
kept to be compared, all are counted. Values only, so that what several processes found can be joined.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from devices.readings import Address
from rules.alarms import Alarm, Transition
from rules.decisions import Decision
from rules.state import State

SPELLS_MOST = 20_000
"""Of one rule, kept to be compared; some 3 MB."""
EXAMPLES_MOST = 5

NEVER = 2**62
"""When a spell ends that has not ended."""


class Instance(msgspec.Struct, frozen=True, order=True):
    """One time that a rule was raised."""

    at: int
    """Unix ms."""
    address: Address
    track: str | None = None


class Outcome(msgspec.Struct):
    """Of one rule."""

    raised: int = 0
    """Also while the alarm stood."""
    cleared: int = 0
    before: int = 0
    """Alarms that were there when the time began."""
    open: int = 0
    """Alarms that are there when it ends."""
    first: Instance | None = None
    last: Instance | None = None
    days: dict[str, int] = {}
    """Raised, by day."""
    orders: dict[str, int] = {}
    """That would have been given, by command."""
    withheld: int = 0

    def join(self, other: "Outcome") -> None:
        """Take in what another process found of the same rule."""
        for name in ("raised", "cleared", "before", "open", "withheld"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.days = dict(Counter(self.days) + Counter(other.days))
        self.orders = dict(Counter(self.orders) + Counter(other.orders))
        self.first = min((each for each in (self.first, other.first) if each is not None), default=None)
        self.last = max((each for each in (self.last, other.last) if each is not None), default=None)


class Difference(msgspec.Struct):
    """Between two versions of one rule."""

    same: int = 0
    shifted: int = 0
    """Raised by both for the same spell, at other moments."""
    only: tuple[int, int] = (0, 0)
    """Raised by the one, by the other."""
    examples: tuple[list[Instance], list[Instance]] = msgspec.field(default_factory=lambda: ([], []))
    """The first of each."""
    uncompared: int = 0
    """Beyond what was kept."""

    @property
    def any(self) -> bool:
        """Whether they came to different alarms."""
        return bool(self.shifted or any(self.only))

    def join(self, other: "Difference") -> None:
        """Take in what another process found of the same rule."""
        self.same += other.same
        self.shifted += other.shifted
        self.uncompared += other.uncompared
        self.only = (self.only[0] + other.only[0], self.only[1] + other.only[1])
        for mine, more in zip(self.examples, other.examples, strict=True):
            mine[:] = sorted([*mine, *more])[:EXAMPLES_MOST]


Spells = dict[str, list[tuple[int, int]]]
"""By alarm key: from when to when (Unix ms) the alarm was there, in order."""


class Tally:
    """Counts what an engine decides from ``from_ms`` on; ``day_of`` names the day of a moment (Unix ms).

    Alarms that name others (a fold, a flood) are not counted: what they name is.
    """

    def __init__(self, rules: Iterable[str], from_ms: int, day_of: Callable[[int], str]) -> None:
        self.outcomes = {rule: Outcome() for rule in rules}
        self.spells: dict[str, Spells] = {}
        self.uncompared: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self.named: dict[str, Instance] = {}
        """By alarm key, whom it is about."""
        self._open: dict[str, tuple[str, int]] = {}
        """Of alarms that are there: rule, since when."""
        self._from_ms = from_ms
        self._day_of = day_of

    def take(self, state: State, decision: Decision) -> list[str]:
        """One decision, and the state after it; gives the ids of alarms that have cleared and still stand."""
        over = []
        for change in decision.changes:
            alarm, counted = change.alarm, change.at >= self._from_ms
            match change.transition:
                case Transition.RAISED | Transition.RERAISED if alarm.members is None:
                    self._raise(alarm, change.at, counted=counted)
                case Transition.CLEARED:
                    if alarm.members is None:
                        self._clear(alarm, change.at, counted=counted)
                    if alarm.on_board:
                        over.append(alarm.id)
                case _:
                    pass
        for order in decision.orders:
            if order.issued_at >= self._from_ms:
                orders = self._of(order.alarm_id, state).orders
                orders[order.command] = orders.get(order.command, 0) + 1
        for withheld in decision.withheld:
            if withheld.at >= self._from_ms:
                self._of(withheld.alarm_id, state).withheld += 1
        return over

    def end(self) -> None:
        """The time is over: what is there is there."""
        for key, (rule, since) in self._open.items():
            outcome = self._outcome(rule)
            outcome.open += 1
            outcome.before += since < self._from_ms
            self._keep(rule, key, since, NEVER)
        self._open.clear()

    def _raise(self, alarm: Alarm, at: int, *, counted: bool) -> None:
        self._close(alarm.key, at)  # pressed once more: a spell of its own
        self._open[alarm.key] = alarm.rule, at
        outcome = self._outcome(alarm.rule)
        if not counted:
            return
        outcome.raised += 1
        day = self._day_of(at)
        outcome.days[day] = outcome.days.get(day, 0) + 1
        instance = self.named[alarm.key] = Instance(at, alarm.address, alarm.track)
        if outcome.first is None or instance < outcome.first:
            outcome.first = instance
        if outcome.last is None or instance > outcome.last:
            outcome.last = instance

    def _clear(self, alarm: Alarm, at: int, *, counted: bool) -> None:
        self._close(alarm.key, at)
        self._outcome(alarm.rule).cleared += counted

    def _close(self, key: str, at: int) -> None:
        found = self._open.pop(key, None)
        if found is None:
            return
        rule, since = found
        if at >= self._from_ms:
            self._outcome(rule).before += since < self._from_ms
            self._keep(rule, key, since, at)

    def _keep(self, rule: str, key: str, since: int, until: int) -> None:
        if since < self._from_ms:
            return  # of the time before
        if self._kept[rule] >= SPELLS_MOST:
            self.uncompared[rule] += 1
            return
        self._kept[rule] += 1
        self.spells.setdefault(rule, {}).setdefault(key, []).append((since, until))

    def _outcome(self, rule: str) -> Outcome:
        return self.outcomes.setdefault(rule, Outcome())

    def _of(self, alarm_id: str, state: State) -> Outcome:
        key = state.keys.get(alarm_id)
        return self._outcome(state.alarms[key].rule) if key is not None else Outcome()


def differences(one: Tally, other: Tally) -> dict[str, Difference]:
    """How two tallies of the same time differ, by rule, for the rules that both have."""
    return {rule: _difference(rule, one, other) for rule in one.outcomes if rule in other.outcomes}


def _difference(rule: str, one: Tally, other: Tally) -> Difference:
    found = Difference(uncompared=one.uncompared[rule] + other.uncompared[rule])
    mine, others = one.spells.get(rule, {}), other.spells.get(rule, {})
    only: tuple[list[Instance], list[Instance]] = ([], [])
    for key in dict.fromkeys(chain(mine, others)):
        alone = _match(mine.get(key, ()), others.get(key, ()), found)
        for side, spells in zip(only, alone, strict=True):
            named = one.named.get(key) or other.named[key]
            side += [Instance(since, named.address, named.track) for since in spells]
    found.only = (len(only[0]), len(only[1]))
    found.examples = (sorted(only[0])[:EXAMPLES_MOST], sorted(only[1])[:EXAMPLES_MOST])
    return found


def _match(
    mine: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]], found: Difference
) -> tuple[list[int], list[int]]:
    """Spells of one key that overlap are the same; gives when those begin that have no counterpart."""
    alone: tuple[list[int], list[int]] = ([], [])
    i = j = 0
    while i < len(mine) and j < len(others):
        (since, until), (since_other, until_other) = mine[i], others[j]
        if until < since_other:
            alone[0].append(since)
            i += 1
        elif until_other < since:
            alone[1].append(since_other)
            j += 1
        else:
            found.same += since == since_other
            found.shifted += since != since_other
            i, j = i + 1, j + 1
    alone[0].extend(since for since, _ in mine[i:])
    alone[1].extend(since for since, _ in others[j:])
    return alone


def joined(parts: Iterable[Mapping[str, Outcome]]) -> dict[str, Outcome]:
    """What several processes found, each of other devices."""
    whole: dict[str, Outcome] = {}
    for part in parts:
        for rule, outcome in part.items():
            whole.setdefault(rule, Outcome()).join(outcome)
    return whole


def joined_differences(parts: Iterable[Mapping[str, Difference]]) -> dict[str, Difference]:
    """The same for differences."""
    whole: dict[str, Difference] = {}
    for part in parts:
        for rule, difference in part.items():
            whole.setdefault(rule, Difference()).join(difference)
    return whole
