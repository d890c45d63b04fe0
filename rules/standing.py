"""What follows from the alarms and the devices and is looked up at every change: who stands where with what.

Indexes only; nothing here is stored. They are filled by those who know which rules ask: the annunciator and
`rules.functions.around`.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple, TypeVar

from devices.readings import Address

_Key = TypeVar("_Key", bound=Hashable)
_Item = TypeVar("_Item", bound=Hashable)

_NONE: frozenset[str] = frozenset()
_NOBODY: frozenset[Address] = frozenset()


class Well(NamedTuple):
    """Devices that spoke lately, by the keys that alarms about their silence would have."""

    keys: frozenset[str]
    until: int
    """Unix ms; before, all of them that do not stand are well."""


class Standing:
    """Active alarms by rule and whereabouts, and the members of folds; all by the key of the alarm."""

    __slots__ = ("_members", "_where", "well")

    def __init__(self) -> None:
        self.well: dict[tuple[str, str], Well] = {}
        """By rule and whereabouts, who was found well at the last look: in a storm not everybody is looked at for each
        alarm. No decision is another for it.
        """
        self._where: dict[tuple[str, str], set[str]] = {}
        self._members: dict[str, set[str]] = {}

    def of(self, rule: str, where: str) -> set[str] | frozenset[str]:
        """Alarms of a rule at a place or of a device."""
        return self._where.get((rule, where), _NONE)

    def members(self, fold_id: str) -> list[str]:
        """What is folded into an alarm, in the order of the keys."""
        return sorted(self._members.get(fold_id, _NONE))

    def count(self, fold_id: str) -> int:
        """How many are folded into an alarm."""
        return len(self._members.get(fold_id, _NONE))

    def add(self, key: str, rule: str, wheres: Iterable[str], fold_id: str | None) -> None:
        """An alarm stands."""
        for where in wheres:
            self._where.setdefault((rule, where), set()).add(key)
        if fold_id is not None:
            self._members.setdefault(fold_id, set()).add(key)

    def remove(self, key: str, rule: str, wheres: Iterable[str], fold_id: str | None) -> None:
        """It stands no more, or elsewhere."""
        for where in wheres:
            _take_out(self._where, (rule, where), key)
        if fold_id is not None:
            _take_out(self._members, fold_id, key)


class Marked:
    """Devices for which a condition that others look at holds, or held a short while ago, by place."""

    __slots__ = ("_at", "heard", "waiting")

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], set[Address]] = {}
        self.heard: dict[tuple[str, str], int] = {}
        """Devices that have said anything, by kind and place."""
        self.waiting: set[tuple[str, Address]] = set()
        """Whose mark has a deadline."""

    def of(self, condition: str, place: str) -> set[Address] | frozenset[Address]:
        """The devices marked at a place."""
        return self._at.get((condition, place), _NOBODY)

    def add(self, condition: str, place: str, address: Address) -> None:
        """It holds for this device."""
        self._at.setdefault((condition, place), set()).add(address)

    def remove(self, condition: str, place: str, address: Address) -> None:
        """It has not held for long enough."""
        _take_out(self._at, (condition, place), address)


def _take_out(sets: dict[_Key, set[_Item]], key: _Key, item: _Item) -> None:
    found = sets.get(key)
    if found is not None:
        found.discard(item)
        if not found:
            del sets[key]
