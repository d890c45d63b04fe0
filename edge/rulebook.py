"""The rules in force, and the rules on disk (docs/adr/0015).

What the gateway runs lies in its journal, as the files were when they came into force. The files on disk are a
proposal: read at the very first start, and from then on only compared, until a person says `anlin rules apply`.
Reads files, writes none.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from devices.documents import Tree, parse_yaml
from devices.faults import ConfigurationError, Fault
from edge.checking import PACKS, parse_rules, shipped_packs
from edge.settings import Config, read_text, shown_path
from edge.store.reader import JournalReader
from edge.store.records import KeptRules, RuleDocument
from edge.store.schema import FILE
from rules.definitions import RuleSet
from rules.succession import RuleChanges, changes_between

COMMAND = "anlin rules apply"

PACKS_FOLDER = Path(str(files("rules").joinpath("packs"))).resolve()
"""Where the shipped packs lie."""


def parsed(documents: Iterable[RuleDocument]) -> list[tuple[str, Tree]]:
    """The documents as trees, each with its name in faults. Raises `ConfigurationError` with every fault."""
    trees, faults = _parsed(documents)
    if faults:
        raise ConfigurationError(faults)
    return trees


def compiled(config: Config, documents: Iterable[RuleDocument]) -> RuleSet:
    """The rule set of these documents. Raises `ConfigurationError` with every fault in every one."""
    trees, faults = _parsed(documents)
    try:
        rules = parse_rules(config, trees)
    except ConfigurationError as error:
        raise ConfigurationError([*faults, *error.faults]) from error
    if faults:
        raise ConfigurationError(faults)
    return rules


def on_disk(config: Config, kept: KeptRules | None = None) -> list[RuleDocument]:
    """The shipped packs, the files of the configuration, and what is in force beside them as far as it is there.

    Raises `ConfigurationError` with every file that cannot be read.
    """
    beside = [] if kept is None else [each for each in kept.documents if not (each.pack or each.configured)]
    paths = dict.fromkeys(config.rules, True)
    for each in beside:
        if Path(each.file).exists():
            paths.setdefault(Path(each.file), False)
    packs = [RuleDocument(file, text, pack=True) for file, text in shipped_packs()]
    return [*packs, *_read(paths)]


def with_files(config: Config, kept: KeptRules, given: Sequence[Path]) -> list[RuleDocument]:
    """What is in force, with these files as they are now: a known one replaced, a new one at the end.

    Raises `ConfigurationError` with every file that cannot be read.
    """
    names = {path.absolute(): path.resolve() for path in given}
    packs = {
        f"{PACKS}/{resolved.name}" for resolved in names.values() if resolved.parent == PACKS_FOLDER
    }  # fmt: skip
    wanted = {
        path: path in config.rules for path, resolved in names.items() if resolved.parent != PACKS_FOLDER
    }  # fmt: skip
    fresh = {document.file: document for document in _read(wanted)}
    fresh |= {file: RuleDocument(file, text, pack=True) for file, text in shipped_packs() if file in packs}
    standing = [fresh.pop(each.file, each) for each in kept.documents]
    return [*standing, *fresh.values()]


def documents_of(config: Config, given: Sequence[Path]) -> list[RuleDocument]:
    """Exactly these files. Raises `ConfigurationError` with every file that cannot be read."""
    return _read({path.absolute(): path.absolute() in config.rules for path in given})


def in_force(config: Config) -> KeptRules | None:
    """What the journal keeps, read beside a running gateway or without one; None where there is none yet.

    Raises `StoreError`.
    """
    with JournalReader(config.data_dir / FILE) as reader:
        return reader.rules()


def in_force_or_on_disk(config: Config) -> Sequence[RuleDocument]:
    """What is in force; where the journal keeps no rules yet, what a start would take. Raises as both do."""
    kept = in_force(config)
    return on_disk(config) if kept is None else kept.documents


def same_texts(one: Iterable[RuleDocument], other: Iterable[RuleDocument]) -> bool:
    """Whether nothing at all was written anew."""
    return [(each.file, each.text) for each in one] == [(each.file, each.text) for each in other]


def same_files(one: Iterable[RuleDocument], other: Iterable[RuleDocument]) -> bool:
    """Whether the rules stand in the same files, and the configuration names the same of them."""
    return [(each.file, each.configured) for each in one] == [(each.file, each.configured) for each in other]


def at_start(config: Config, kept: KeptRules | None, now: int) -> tuple[RuleSet, KeptRules, str | None]:
    """What a start runs: the rules in force; at the first start, those on disk, which are in force from ``now`` on.

    The third is why rules that are kept could not be read by this version, if so: then those on disk are taken.
    Raises `ConfigurationError` where there are none in force and those on disk are faulty.
    """
    unreadable = None
    if kept is not None:
        try:
            return compiled(config, kept.documents), kept, None
        except ConfigurationError as error:
            unreadable = told_faults(error.faults)
    documents = on_disk(config, kept)
    rules = compiled(config, documents)
    return rules, KeptRules(rules.hash, now, tuple(documents)), unreadable


def difference(config: Config, kept: KeptRules) -> str | None:
    """What the files on disk would change, in one line with what to do; None if nothing."""
    try:
        documents = on_disk(config, kept)
        if same_texts(documents, kept.documents):
            return None
        after = compiled(config, documents)
    except ConfigurationError as error:
        return f"rules on disk are faulty and not in force: {told_faults(error.faults)}"
    before = compiled(config, kept.documents)
    changes = changes_between(before, after)
    if not changes:
        return None
    return f"rules on disk differ: {told_changes(changes)}; apply with {_command(changes, before, after, config)}"


def told_changes(changes: RuleChanges) -> str:
    """Which rules, in one phrase."""
    parts = (("new", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    return ", ".join(f"{what} {_few(names)}" for what, names in parts if names)


def told_faults(faults: Sequence[Fault]) -> str:
    """The first of them, and how many there are."""
    more = f" (and {len(faults) - 1} more: `anlin rules check` lists all)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}".replace("\n", " ")


def _few(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _command(changes: RuleChanges, before: RuleSet, after: RuleSet, config: Config) -> str:
    """With the one file that it is about; without, where it takes the configuration's whole list."""
    touched = _files(after, changes.fresh) | _files(before, changes.removed)
    named = {shown_path(path) for path in config.rules}
    if len(touched) == 1 and touched <= named:
        return f"`{COMMAND} {touched.pop()}`"
    return f"`{COMMAND}`"


def _files(rules: RuleSet, ids: Iterable[str]) -> set[str]:
    wanted = frozenset(ids)
    return {rule.file for rule in rules.rules if rule.id in wanted}


def _parsed(documents: Iterable[RuleDocument]) -> tuple[list[tuple[str, Tree]], list[Fault]]:
    trees: list[tuple[str, Tree]] = []
    faults: list[Fault] = []
    for each in documents:
        shown = each.file if each.pack else shown_path(Path(each.file))
        try:
            trees.append((shown, parse_yaml(each.text, shown)))
        except ConfigurationError as error:
            faults.extend(error.faults)
    return trees, faults


def _read(paths: Mapping[Path, bool]) -> list[RuleDocument]:
    faults: list[Fault] = []
    documents = []
    for path, configured in paths.items():
        shown = shown_path(path)
        try:
            documents.append(RuleDocument(str(path), read_text(path, shown), configured=configured))
        except ConfigurationError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigurationError(faults)
    return documents
