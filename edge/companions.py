"""Rules that others name: a file that is tried alone says `suppressed_by` of rules that stand in other files.

What a file names and does not bring is taken from the rules in force, so that what is tried behaves as it would there.
Such companions run, and nothing is told of them. Reads the journal, writes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from devices.documents import Tree
from edge.checking import parse_rules
from edge.rulebook import in_force_or_on_disk, parsed
from edge.settings import Config
from edge.store.records import RuleDocument
from rules.definitions import RuleSet

_Entry = Mapping[str, Tree]
_Found = tuple[str, _Entry]
"""A rule as it is written, and the file that it stands in."""


def accompanied(config: Config, documents: Sequence[RuleDocument]) -> tuple[RuleSet, tuple[str, ...]]:
    """The rule set of these documents and of those rules in force that they name; and the ids of the latter.

    Raises `ConfigurationError` with every fault in every one, `StoreError`.
    """
    given = parsed(documents)
    own = {rule_id for rule_id, _ in _entries(given)}
    named = {name for _, (_, entry) in _entries(given) for name in _causes(entry)}
    beside: dict[str, _Found] = {}
    if not named <= own:
        known = dict(_entries(parsed(in_force_or_on_disk(config))))
        wanted = sorted(named - own)
        while wanted:
            rule_id = wanted.pop()
            if rule_id in known and rule_id not in beside:
                beside[rule_id] = known[rule_id]
                wanted += [name for name in _causes(known[rule_id][1]) if name not in own]
    companions: list[tuple[str, Tree]] = [(file, {"rules": [dict(entry)]}) for file, entry in beside.values()]
    return parse_rules(config, [*companions, *given]), tuple(sorted(beside))


def _entries(trees: Iterable[tuple[str, Tree]]) -> Iterator[tuple[str, _Found]]:
    """Every rule that can be read so far, by its id; what is faulty is told when it is compiled."""
    for file, tree in trees:
        listed = tree.get("rules") if isinstance(tree, dict) else None
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and isinstance(rule_id := entry.get("id"), str):
                yield rule_id, (file, entry)


def _causes(entry: _Entry) -> Iterator[str]:
    listed = entry.get("suppressed_by")
    for item in listed if isinstance(listed, list) else ():
        name = item.get("rule") if isinstance(item, dict) else item
        if isinstance(name, str):
            yield name
