"""Everything that a person wrote, read and checked before anything starts: registry, rules, folders.

`load_registry` and `load_rules` are what the node starts from; `check` finds the faults of both in one go.
"""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

from devices.documents import Tree, parse_yaml
from devices.faults import ConfigurationError, Fault
from devices.readings import Address
from devices.registry import Registry, parse_registry
from edge.settings import Config, read_text, shown_path
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse
from rules.hours import Calendar
from rules.places import Neighbourhood

PACKS = "rules/packs"
"""How shipped packs are named in faults."""


def load_registry(config: Config) -> Registry:
    """The registry file's content; an empty registry where none is named. Raises `ConfigurationError`."""
    if config.devices is None:
        return Registry()
    shown = shown_path(config.devices)
    return parse_registry(parse_yaml(read_text(config.devices, shown), shown), shown, config.site)


def load_rules(config: Config, *more: Path) -> RuleSet:
    """The shipped packs, then the rule files of the configuration, then ``more``, as one rule set.

    Raises `ConfigurationError` with every fault in every file.
    """
    documents: list[tuple[str, Tree]] = [(shown, parse_yaml(text, shown)) for shown, text in shipped_packs()]
    faults: list[Fault] = []
    for path in dict.fromkeys((*config.rules, *(path.absolute() for path in more))):
        shown = shown_path(path)
        try:
            documents.append((shown, parse_yaml(read_text(path, shown), shown)))
        except ConfigurationError as error:
            faults.extend(error.faults)
    try:
        rules = parse_rules(config, documents)
    except ConfigurationError as error:
        raise ConfigurationError([*faults, *error.faults]) from error
    if faults:
        raise ConfigurationError(faults)
    return rules


def calendar_of(config: Config) -> Calendar:
    """The property's clock and holidays, for rules that have hours."""
    return Calendar(ZoneInfo(config.timezone), frozenset(config.holidays))


def parse_rules(config: Config, documents: Sequence[tuple[str, Tree]]) -> RuleSet:
    """The rule set of parsed documents, at this property. Raises `ConfigurationError` with every fault."""
    return parse(documents, calendar=calendar_of(config))


def engine_of(config: Config, registry: Registry, rules: RuleSet) -> Engine:
    """The engine of a rule set at this property: live, in a replay, in a scenario."""

    def place_of(address: Address) -> dict[str, str]:
        device = registry.device(address)
        return device.place if device is not None else {}

    return Engine(
        rules,
        site=config.site,
        node=config.node,
        place_of=place_of,
        around=Neighbourhood(registry.devices.values()),
        unregistered_max=config.unregistered_max,
    )


def check(config: Config) -> list[Fault]:
    """Every fault in what the configuration names; empty if the gateway can start."""
    faults = _unusable(config.data_dir)
    for load in (load_registry, load_rules):
        try:
            load(config)
        except ConfigurationError as error:
            faults.extend(error.faults)
    return faults


def shipped_packs() -> list[tuple[str, str]]:
    """The rule files that come with Anlin: how each is named, and its text."""
    packs = (pack for pack in files("rules").joinpath("packs").iterdir() if pack.name.endswith(".yaml"))
    found = sorted(packs, key=lambda pack: pack.name)
    return [(f"{PACKS}/{pack.name}", pack.read_text(encoding="utf-8")) for pack in found]


def _unusable(data_dir: Path) -> list[Fault]:
    """A data directory may not be there yet; it must be possible to make it."""
    existing = next((folder for folder in (data_dir, *data_dir.parents) if folder.exists()), Path("/"))
    if not existing.is_dir():
        reason = (
            "cannot be used: a file is in its way"
            if existing == data_dir
            else "cannot be made: a file is in its way"
        )
        return [Fault(shown_path(data_dir), "", reason)]
    if not os.access(existing, os.W_OK | os.X_OK):
        reason = "cannot be written; give it to the user that runs the gateway, or set data_dir to another"
        return [Fault(shown_path(data_dir), "", reason)]
    return []
