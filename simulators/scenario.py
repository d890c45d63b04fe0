"""A scenario file: who is there, what happens when, and which alarms a right gateway must raise in what time.

```yaml
name: hot-port
description: {en: A charging port gets hot, zh: 充电口过热}
devices: {chargers: 24, smoke: 4}
timeline:
  - {at: 10s, device: shed1-p07, fault: overheat, rate: 0.7}
expect:
  - {alarm: charger-hot, device: shed1-p07, within: 90s}
```

``devices`` is counts, or a list of entries with the registry's words, where ``count`` counts an id's number
up (``shed1-p01`` with 24 makes ``shed1-p01`` to ``shed1-p24``). A line of the timeline says one of ``fault``,
``action``, ``passenger`` and the parameters of it. An expectation counts ``within`` from ``after``, by
default from the first thing that happens to its device; ``change`` is ``raised`` or ``cleared``.
Times are the devices' own. Everything that is wrong with a file is told at once.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from devices.documents import parse_yaml
from devices.faults import ConfigurationError, Fault, nearest
from devices.topics import LEVEL
from rules.entries import Entry
from simulators.device import Happening, Parameter
from simulators.fleet import COUNTED, MODELS, MORNING_S, Placement, community, home

SHIPPED = Path(__file__).parent / "scenarios"
"""The scenarios that come with Anlin."""

CHANGES = frozenset({"raised", "cleared"})
OTHER_ALARMS = frozenset({"allowed", "forbidden"})
COUNT_LIMIT = 50_000

_KEYS = frozenset(
    {
        "name",
        "description",
        "seed",
        "rate",
        "starts_at",
        "duration",
        "devices",
        "timeline",
        "expect",
        "other_alarms",
    }
)
_PLACE_KEYS = ("building", "unit", "floor", "room")
_DEVICE_KEYS = frozenset({"kind", "id", "count", "group", "household", *_PLACE_KEYS})
_VERBS = ("fault", "action", "passenger")
_EXPECT_KEYS = frozenset({"alarm", "device", "change", "after", "within"})
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_NUMBERED = re.compile(r"(.*?)([0-9]+)\Z")
_AFTERMATH_S = 10.0


@dataclass(frozen=True, slots=True)
class Expectation:
    """An alarm that must change so, between ``after_s`` and ``until_s`` of the story."""

    alarm: str
    """The rule's id."""
    device: str
    change: str
    after_s: float
    until_s: float

    def __str__(self) -> str:
        """What a person reads."""
        return f"{self.alarm} of {self.device} {self.change} by {self.until_s:.0f} s"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story, checked."""

    name: str
    file: str
    description: Mapping[str, str]
    placements: Sequence[Placement]
    timeline: Sequence[Happening]
    """In the order of their times."""
    expect: Sequence[Expectation]
    duration_s: float
    seed: int = 0
    rate: float | None = None
    starts_at_s: float = MORNING_S
    others_forbidden: bool = False
    """Any alarm that is not expected is a failure."""
    kinds: Mapping[str, str] = field(init=False)
    """Device → kind; within a scenario a name has one kind."""

    def __post_init__(self) -> None:
        kinds = {placement.id: placement.kind for placement in self.placements}
        object.__setattr__(self, "kinds", MappingProxyType(kinds))


def find_scenario(name: str) -> Path:
    """The file of a scenario: a path, or the name of a shipped one. Raises `ConfigurationError`."""
    for path in (Path(name), SHIPPED / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    reason = f"there is no such file, and no shipped scenario of that name ({', '.join(shipped)})"
    raise ConfigurationError([Fault(name, "", reason, nearest=nearest(name, shipped))])


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises `ConfigurationError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(str(path), "", f"cannot be read: {error}")]) from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, file: str) -> Scenario:
    """Check a scenario. Raises `ConfigurationError` with every fault in it."""
    return _Reading(text, file).scenario()


class _Reading:
    """One file being checked."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._faults: list[Fault] = []
        self._top = Entry(parse_yaml(text, file), "", file, self._faults)

    def scenario(self) -> Scenario:
        top = self._top
        top.known(_KEYS, required=("name", "devices"))
        placements = self._placements()
        kinds = {placement.id: placement.kind for placement in placements}
        happenings = [self._happening(entry, kinds) for entry in top.entries("timeline")]
        timeline = sorted((one for one in happenings if one is not None), key=lambda one: one.at_s)
        expectations = [self._expectation(entry, kinds, timeline) for entry in top.entries("expect")]
        expect = [one for one in expectations if one is not None]
        last_s = max([*(one.at_s for one in timeline), *(one.until_s for one in expect)], default=0.0)
        seed, rate = self._whole(top, "seed", 0, 2**63), self._number(top, "rate", 0.001, 100_000)
        others = top.word("other_alarms", OTHER_ALARMS)
        duration_s = self._duration(top, "duration")
        scenario = Scenario(
            name=top.text("name") or "",
            file=self._file,
            description=self._description(),
            placements=placements,
            timeline=timeline,
            expect=expect,
            duration_s=duration_s if duration_s is not None else last_s + _AFTERMATH_S,
            seed=seed or 0,
            rate=rate,
            starts_at_s=self._starts_at(),
            others_forbidden=others == "forbidden",
        )
        if duration_s is not None and duration_s < last_s:
            top.fault(
                "duration", f"ends before the story does, at {last_s:.0f} s", value=top.text("duration")
            )
        if self._faults:
            raise ConfigurationError(self._faults)
        return scenario

    def _description(self) -> dict[str, str]:
        entry = self._top.entry("description")
        if entry is None:
            return {}
        entry.known(("en", "zh"))
        return {language: entry.text(language) or "" for language in ("en", "zh") if entry.has(language)}

    def _starts_at(self) -> float:
        text = self._top.text("starts_at")
        if text is None:
            return MORNING_S
        found = _TIME_OF_DAY.match(text)
        if found is None:
            self._top.fault("starts_at", "must be a time of day such as 07:30", value=text)
            return MORNING_S
        return int(found[1]) * 3_600.0 + int(found[2]) * 60.0

    # --- devices ------------------------------------------------------------------------------------------

    def _placements(self) -> list[Placement]:
        if not self._top.has("devices"):
            return []
        if isinstance(self._top.fields["devices"], list):
            return self._listed()
        entry = self._top.entry("devices")
        if entry is None:
            return []
        entry.known(COUNTED)
        return community(
            {kind: self._whole(entry, key, 0, COUNT_LIMIT) or 0 for key, kind in COUNTED.items()}
        )

    def _listed(self) -> list[Placement]:
        placements: dict[str, Placement] = {}
        for entry in self._top.entries("devices"):
            entry.known(_DEVICE_KEYS, required=("kind", "id"))
            kind, first = entry.word("kind", MODELS.keys()), entry.text("id")
            count = self._whole(entry, "count", 1, COUNT_LIMIT) or 1
            place = {key: value for key in _PLACE_KEYS if (value := entry.text(key)) is not None}
            group, household = entry.text("group"), entry.text("household")
            if kind is None or first is None:
                continue
            for name in self._names(entry, first, count):
                where, who = dict(place), household
                if not place and kind in ("smoke", "button"):
                    where, who = home(sum(one.kind == kind for one in placements.values()), 3, name)
                if name in placements:
                    entry.fault(
                        "id", f"{name} is there already; within a scenario a name is used once", value=first
                    )
                placements[name] = Placement(name, kind, where, group, who)
        return list(placements.values())

    def _names(self, entry: Entry, first: str, count: int) -> list[str]:
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

    def _device(self, entry: Entry, kinds: Mapping[str, str]) -> str | None:
        name = entry.text("device")
        if name is None or name in kinds:
            return name
        entry.fault(
            "device", "is not among the devices of this scenario", value=name, nearest=nearest(name, kinds)
        )
        return None

    # --- timeline and expectations ------------------------------------------------------------------------

    def _happening(self, entry: Entry, kinds: Mapping[str, str]) -> Happening | None:
        at_s, device = self._duration(entry, "at"), self._device(entry, kinds)
        said = [verb for verb in _VERBS if entry.has(verb)]
        if len(said) != 1:
            # Without its verb, what belongs to it cannot be known: tell an unknown key first.
            entry.known({"at", "device", *_VERBS} if not said else entry.fields, required=("at", "device"))
            entry.fault(None, f"says {len(said)} of {', '.join(_VERBS)}; one is needed")
            return None
        if device is None:
            entry.known(entry.fields, required=("at", "device"))
            return None
        verb, happenings = said[0], MODELS[kinds[device]].happenings
        if verb not in happenings:
            entry.fault(verb, f"a {kinds[device]} has none; it has {', '.join(sorted(happenings))}")
            return None
        name = entry.word(verb, happenings[verb].keys())
        if name is None:
            return None
        known = happenings[verb][name]
        entry.known({"at", "device", verb, *known}, required=("at", "device"))
        given = {
            key: value for key in known if (value := self._parameter(entry, key, known[key])) is not None
        }
        return None if at_s is None else Happening(at_s, device, verb, name, MappingProxyType(given))

    def _expectation(
        self, entry: Entry, kinds: Mapping[str, str], timeline: Sequence[Happening]
    ) -> Expectation | None:
        entry.known(_EXPECT_KEYS, required=("alarm", "device", "within"))
        alarm, device = entry.text("alarm"), self._device(entry, kinds)
        change = entry.word("change", CHANGES) or "raised"
        after_s, within_s = self._duration(entry, "after"), self._duration(entry, "within")
        if alarm is None or device is None or within_s is None:
            return None
        if after_s is None:
            after_s = next((one.at_s for one in timeline if one.device == device), 0.0)
        return Expectation(alarm, device, change, after_s, after_s + within_s)

    # --- values -------------------------------------------------------------------------------------------

    def _duration(self, entry: Entry, key: str) -> float | None:
        ms = entry.duration(key)
        return None if ms is None else ms / 1_000

    def _parameter(self, entry: Entry, key: str, parameter: Parameter) -> float | None:
        if parameter.unit == "s":
            most_ms = {} if math.isinf(parameter.high) else {"most_ms": int(parameter.high * 1_000)}
            ms = entry.duration(key, least_ms=int(parameter.low * 1_000), **most_ms)
            return None if ms is None else ms / 1_000
        return self._number(entry, key, parameter.low, parameter.high, parameter.unit)

    def _whole(self, entry: Entry, key: str, low: int, high: int) -> int | None:
        text = entry.text(key)
        if text is None:
            return None
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        entry.fault(key, f"must be a whole number from {low} to {high}", value=text)
        return None

    def _number(self, entry: Entry, key: str, low: float, high: float, unit: str = "") -> float | None:
        text = entry.text(key)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if low <= number <= high:
            return number
        entry.fault(key, f"must be a number from {low:g} to {high:g} {unit}".rstrip(), value=text)
        return None
