"""Who is in a story: its devices read from the file, and the words by which the file speaks of them.

``devices`` is counts, or a list of entries with the registry's words. Everywhere else devices are named by the same
few words (`WHO`), which all have to fit: ``device`` (a name, a pattern with ``*``, or a list of them), ``kind``,
``building``, ``unit``, ``floor``, ``room``, ``group``, ``household``; ``pick`` takes so many of them, by the seed.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from devices.documents import Tree
from devices.faults import ConfigurationError, Fault, nearest
from devices.registry import Registry, parse_registry
from devices.topics import LEVEL
from rules.language.entries import Entry
from simulators.fleet import COUNTED, MODELS, Placement, community, home, registry_tree
from simulators.spans import whole

SITE = "c1"
"""Where every story plays."""

COUNT_LIMIT = 50_000

PLACE_KEYS = ("building", "unit", "floor", "room")
WHERE = (*PLACE_KEYS, "group", "household")
WHO = frozenset({"device", "devices", "kind", "pick", *WHERE})
"""The words by which devices are spoken of."""

_DEVICE_KEYS = frozenset({"kind", "id", "count", "group", "household", "buffers", "installed", *PLACE_KEYS})
_NUMBERED = re.compile(r"(.*?)([0-9]+)\Z")


@dataclass(frozen=True, slots=True)
class Who:
    """Devices that an entry speaks of."""

    devices: tuple[str, ...]
    label: str
    """As the file names them."""
    by_place: bool = False
    """Neither by name nor by kind: there may be devices among them that are not meant."""


class Cast:
    """The devices of a scenario."""

    def __init__(
        self,
        placements: Sequence[Placement],
        seed: int = 0,
        *,
        unread: Iterable[str] = (),
        complete: bool = True,
    ) -> None:
        """``unread``: names of entries that are wrong; not ``complete``: there are others, nobody knows which."""
        self.placements = placements
        self._unread = frozenset(unread)
        self._complete = complete
        self.kinds: Mapping[str, str] = {one.id: one.kind for one in placements}
        self._seed = seed
        self._picks = 0

    def who(self, entry: Entry, *, required: bool = False) -> Who | None:
        """The devices that an entry speaks of; None where it speaks of none, or wrongly, which is told."""
        said = [key for key in ("device", "devices", "kind", *WHERE) if entry.has(key)]
        if not said:
            if required:
                entry.fault(
                    "device", "is missing; or name devices by kind, building, unit, floor, room, group"
                )
            return None
        before = entry.faults_so_far
        wanted = {key: words(entry, key) for key in said}
        names = (*wanted.pop("device", ()), *wanted.pop("devices", ()))
        self._known(entry, names, wanted)
        if entry.faults_so_far > before:
            return None
        found = tuple(one.id for one in self.placements if _fits(one, names, wanted))
        pick = whole(entry, "pick", 1, COUNT_LIMIT)
        if pick is not None and found:
            self._picks += 1
            rng = random.Random(f"{self._seed}/pick/{self._picks}")
            found = tuple(sorted(rng.sample(found, min(pick, len(found))), key=found.index))
        if not found:
            if self._sure:
                entry.fault(None, f"no device of this scenario is {_label(names, wanted)}")
            return None
        label = _label(names, wanted) + (f" ({pick})" if pick is not None else "")
        return Who(found, label, by_place=not names and "kind" not in wanted)

    @property
    def _sure(self) -> bool:
        """Nothing is wrong with the devices themselves, so that what is not among them is not there."""
        return self._complete and not self._unread

    def _known(self, entry: Entry, names: Iterable[str], wanted: Mapping[str, Sequence[str]]) -> None:
        for name in names:
            if "*" in name or "?" in name or not self._complete:
                continue
            if name not in self.kinds and name not in self._unread:
                entry.fault(
                    "device" if entry.has("device") else "devices",
                    "is not among the devices of this scenario",
                    value=name,
                    nearest=nearest(name, {*self.kinds, *self._unread}),
                )
        for key, values in wanted.items():
            there = sorted({value for one in self.placements if (value := _word(one, key)) is not None})
            if not self._sure:
                if key != "kind":
                    continue
                there = sorted(MODELS)
            for value in values:
                if not any(fnmatchcase(each, value) for each in there):
                    some = f" ({', '.join(there[:12])})" if there else ""
                    reason = f"no device of this scenario has this {key}{some}"
                    entry.fault(key, reason, value=value, nearest=nearest(value, there))


def words(entry: Entry, key: str) -> tuple[str, ...]:
    """One word or a list of words."""
    value = entry.fields.get(key)
    if isinstance(value, list):
        told = tuple(one for one in value if isinstance(one, str))
        if len(told) == len(value):
            return tuple(one.rsplit("/", 1)[-1] for one in told)
        entry.fault(key, "must be a list of single values")
        return ()
    word = entry.text(key)
    return () if word is None else (word.rsplit("/", 1)[-1],)


def _word(placement: Placement, key: str) -> str | None:
    match key:
        case "kind":
            return placement.kind
        case "group":
            return placement.group
        case "household":
            return placement.household
    return placement.place.get(key)


def _fits(placement: Placement, names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> bool:
    if names and not any(fnmatchcase(placement.id, name) for name in names):
        return False
    return all(
        (word := _word(placement, key)) is not None and any(fnmatchcase(word, value) for value in values)
        for key, values in wanted.items()
    )


def _label(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> str:
    parts = [", ".join(names)] if names else []
    return ", ".join(parts + [f"{key} {'/'.join(values)}" for key, values in wanted.items()])


# --- who is there -------------------------------------------------------------------------------------------


def read_cast(top: Entry, file: str, seed: int, site: str) -> tuple[Cast, Registry]:
    """The devices of a scenario and the registry in which they stand; faults go into ``top``."""
    before = top.faults_so_far
    placements, unread = _placements(top)
    wrong = top.faults_so_far > before
    cast = Cast(placements, seed, unread=unread or (), complete=not wrong or unread is not None)
    if wrong:
        return cast, Registry()
    made = registry_tree(placements)
    tree: dict[str, Tree] = {key: [{**entry} for entry in entries] for key, entries in made.items()}
    if isinstance(places := top.fields.get("places"), list):
        tree["places"] = places
    try:
        return cast, parse_registry(tree, file, site)
    except ConfigurationError as error:
        for fault in error.faults:
            _tell(top, placements, fault)
        return cast, Registry()


def _tell(top: Entry, placements: Sequence[Placement], fault: Fault) -> None:
    """A fault of the registry that was made of the file, told of the file."""
    found = re.match(r"devices\[(\d+)\]\.?(.*)", fault.path)
    if found is None:
        top.fault("places", fault.reason, value=fault.value, nearest=fault.nearest)
        return
    name = placements[int(found[1])].id
    reason = f"{name}: {found[2]} {fault.reason}" if found[2] else f"{name}: {fault.reason}"
    top.fault("devices", reason, value=fault.value, nearest=fault.nearest)


def _placements(top: Entry) -> tuple[list[Placement], frozenset[str] | None]:
    """The devices, and the names of those that cannot be placed; None where not even the names are known."""
    if not top.has("devices"):
        return [], None
    if isinstance(top.fields["devices"], list):
        return _listed(top)
    entry = top.entry("devices")
    if entry is None:
        return [], None
    entry.known(COUNTED)
    counts = {kind: whole(entry, key, 0, COUNT_LIMIT) or 0 for key, kind in COUNTED.items()}
    return community(counts), None


def _listed(top: Entry) -> tuple[list[Placement], frozenset[str] | None]:
    placements: dict[str, Placement] = {}
    unread: set[str] = set()
    nameless = False
    for entry in top.entries("devices"):
        before = entry.faults_so_far
        entry.known(_DEVICE_KEYS, required=("kind", "id"))
        kind, first = entry.word("kind", MODELS.keys()), entry.text("id")
        count = whole(entry, "count", 1, COUNT_LIMIT)
        nameless = nameless or (count is None and entry.has("count"))
        place = {key: value for key in PLACE_KEYS if (value := entry.text(key)) is not None}
        group, household = entry.text("group"), entry.text("household")
        buffers, installed = entry.truth("buffers"), entry.text("installed")
        names = [] if first is None else _names(entry, first, count or 1)
        nameless = nameless or not names
        if entry.faults_so_far > before:
            unread.update(names)
        if kind is None:
            continue
        for name in names:
            where, who = dict(place), household
            if not place and group is None and kind in ("smoke", "button"):
                where, home_of = home(sum(one.kind == kind for one in placements.values()), 3, name)
                who = household or home_of
            if name in placements:
                entry.fault(
                    "id", f"{name} is there already; within a scenario a name is used once", value=first
                )
            placements[name] = Placement(name, kind, where, group, who, buffers, installed)
    return list(placements.values()), None if nameless else frozenset(unread)


def _names(entry: Entry, first: str, count: int) -> list[str]:
    """``count`` names from ``first`` on, its last number counted up."""
    if not LEVEL.match(first):
        entry.fault("id", "must be 1 to 64 of the characters A-Z a-z 0-9 _ . -", value=first)
        return []
    found = _NUMBERED.match(first)
    if count == 1:
        return [first]
    if found is None:
        entry.fault("id", "must end in a number, so that it can be counted up", value=first)
        return []
    width, start = len(found[2]), int(found[2])
    return [f"{found[1]}{number:0{width}d}" for number in range(start, start + count)]
