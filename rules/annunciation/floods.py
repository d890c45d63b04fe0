"""Floods: more new alarms than a person can follow are told as one, which lists every member.

ISA-18.2 calls it a flood from more than ten new alarms in ten minutes until fewer than five in ten. A rule with
``flood`` says so in figures of its own and has the texts. Counted is what people are told of by itself; what is
suppressed, shelved, folded for a common cause or a drill is not. Critical alarms are listed and stand by themselves
all the same. When the flood is over what still stands comes out of it.
"""

from collections.abc import Iterable, Mapping, Sequence

from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Address, Scalar
from rules.alarms import Alarm, Severity
from rules.annunciation.common_causes import Telling, rendered
from rules.definitions import Flood, Rule
from rules.language.entries import Entry
from rules.state import State
from rules.vocabulary import Point, Sort, Vocabulary

KIND = "gateway"
"""Whose rules can have a flood: it is about the alarms of the gateway."""

MORE_THAN, FEWER_THAN, WITHIN_MS = 10, 5, 600_000
"""ISA-18.2-2016, table 7."""

_MOST = 1_000


class Floods:
    """When alarms are too many."""

    def __init__(self, rules: Iterable[Rule], gateway: Address) -> None:
        self._gateway = gateway
        self.rule = next((rule for rule in rules if rule.flood is not None), None)
        """The rule in force; a rule set has at most one."""
        self._flood = (self.rule and self.rule.flood) or Flood(MORE_THAN, WITHIN_MS, FEWER_THAN)

    def count(self, state: State, at: int) -> bool:
        """People are told of one more alarm; whether by this it is a flood."""
        flood = self._flood
        told = state.announced
        moment = max(at, state.now, told[-1] if told else 0)
        told.append(moment)
        del told[: -flood.more_than - 1]
        return len(told) > flood.more_than and told[0] > moment - flood.within_ms

    def ends_at(self, state: State) -> int:
        """When too few have come for it to go on, if none comes any more (Unix ms)."""
        flood = self._flood
        told = state.announced
        if len(told) < flood.until_fewer_than:
            return state.now
        return told[-flood.until_fewer_than] + flood.within_ms

    def told(self, members: Iterable[Alarm]) -> Telling:
        """What a flood of these alarms says: how many they are of each severity."""
        values: dict[str, Scalar] = {"count": 0, **{str(severity): 0 for severity in Severity}}
        for alarm in members:
            for name in ("count", str(alarm.severity)):
                values[name] = int(values[name]) + 1
        text = {} if self.rule is None else self.rule.text
        return Telling({}, values, rendered(text, self._gateway, {}, values))


def read_flood(entry: Entry, kind: Kind) -> Flood | None:
    """``flood`` of a rule; faults go into the entry."""
    below = entry.entry("flood")
    if below is None:
        return None
    if kind.name != KIND:
        entry.fault("flood", f"is about the alarms of the gateway: its kind must be {KIND}")
    below.known({"more_than", "within", "until_fewer_than"})
    more_than = below.whole("more_than", 1, _MOST) or MORE_THAN
    fewer_than = below.whole("until_fewer_than", 1, _MOST) or min(FEWER_THAN, more_than)
    if fewer_than > more_than + 1:
        below.fault("until_fewer_than", f"must be at most {more_than + 1}: a flood would end as it begins")
    return Flood(more_than, below.duration("within", least_ms=1_000) or WITHIN_MS, fewer_than)


def check_floods(rules: Sequence[Rule], entries: Mapping[str, Entry]) -> None:
    """Refuse a second rule for floods: each would count the alarm of the other."""
    found = [rule.id for rule in rules if rule.flood is not None]
    for name in found[1:]:
        entries[name].fault("flood", f"there is one already, {found[0]}; keep one of them", value=name)


def flood_vocabulary() -> Vocabulary:
    """What the text of a flood may name."""
    names = ("count", *map(str, Severity))
    return Vocabulary(KINDS[KIND], {name: Point(name, Sort.NUMBER) for name in names})
