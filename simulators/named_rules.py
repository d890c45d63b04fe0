"""The rules that a story speaks of: a name that no rule has is a mistake of the story, wherever it stands.

A story is read before the rules are: what it names is kept with the place it stands at, and compared once the rules
are known. Without this a typo under ``never`` would pass for ever.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from devices.faults import Fault, nearest
from rules.definitions import RuleSet
from rules.language.entries import Entry
from simulators.causes import Person

_LISTS = ("expect", "never", "only")
_WORDS = ("alarm", "rule")


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A rule's id, or a pattern, and the fault that it is if no rule is called so."""

    name: str
    fault: Fault


def named_rules(top: Entry) -> Iterator[NamedRule]:
    """Every rule that a story speaks of; the story must have been read without a fault."""
    for key in _LISTS:
        if isinstance(top.fields.get(key), list):
            for entry in top.entries(key):
                yield from _named(entry, _WORDS)
    for entry in (*top.entries("initial"), *top.entries("timeline")):
        yield from _named(entry, tuple(Person))


def unknown_rules(named: Iterable[NamedRule], rules: RuleSet) -> list[Fault]:
    """A fault for each that no rule is called, with the one that was probably meant."""
    known = {rule.id for rule in rules.rules}
    return [
        replace(one.fault, nearest=nearest(one.name, known))
        for one in named
        if not any(fnmatchcase(each, one.name) for each in known)
    ]


def _named(entry: Entry, words: Iterable[str]) -> Iterator[NamedRule]:
    for word in words:
        if (name := entry.text(word)) is not None:
            yield NamedRule(name, entry.mistake(word, "no rule that is read has this id", value=name))
