"""A scenario file: who is there, what happens when, and what a right gateway must make of it.

```yaml
name: hot-port
description: {en: A charging port gets hot, zh: 充电口过热}
devices: {chargers: 24, smoke: 4}
timeline:
  - {at: 10s, device: shed1-p07, fault: overheat, rate: 0.7}
expect:
  - {alarm: charger-hot, device: shed1-p07, within: 90s}
```

One file drives the simulators in real time, the engine in virtual time, load and chaos (docs/scenarios.md). Here is
its top; who is in it is read by `simulators.casting`, what happens by `simulators.timeline`, what must come of it by
`simulators.expectations`. Times are the devices' own. Everything that is wrong with a file is told at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from devices.documents import Fields, Tree, parse_yaml
from devices.faults import ConfigurationError, Fault, nearest
from devices.registry import Registry
from rules.language.entries import Entry
from simulators.casting import SITE, read_cast
from simulators.causes import Cause
from simulators.expectations import Allowed, Expectation, read_expectations
from simulators.fleet import MORNING_S, Placement
from simulators.named_rules import NamedRule, named_rules
from simulators.spans import number, span, whole
from simulators.timeline import read_timeline

SHIPPED = Path(__file__).parent / "scenarios"
"""The scenarios that come with Anlin."""

TIMEZONE = "Asia/Shanghai"
A_DAY = date(2026, 11, 18)
"""The day of a story that names none: a Wednesday, no holiday."""

MORNING = datetime.combine(A_DAY, time(9), UTC)

_KEYS = frozenset(
    {
        "name",
        "description",
        "seed",
        "rate",
        "starts_at",
        "timezone",
        "duration",
        "devices",
        "places",
        "initial",
        "timeline",
        "expect",
        "never",
        "only",
        "other_alarms",
    }
)
_STARTS_AT = re.compile(r"(?:(\d{4}-\d{2}-\d{2})[ T])?([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_AFTERMATH_S = 10.0
_LONGEST_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story, checked."""

    name: str
    file: str
    description: Mapping[str, str]
    placements: Sequence[Placement]
    timeline: Sequence[Cause]
    """In the order of their times."""
    expect: Sequence[Expectation]
    duration_s: float
    seed: int = 0
    rate: float | None = None
    starts_at: datetime = MORNING
    others_forbidden: bool = False
    """Any alarm that is neither expected nor allowed is a failure."""
    allowed: Sequence[Allowed] = ()
    registry: Registry = field(default_factory=Registry)
    named_rules: Sequence[NamedRule] = ()
    """To be compared with the rules where they are known (`simulators.named_rules.unknown_rules`)."""
    kinds: Mapping[str, str] = field(init=False)
    """Device → kind; within a scenario a name has one kind."""

    def __post_init__(self) -> None:
        kinds = {placement.id: placement.kind for placement in self.placements}
        object.__setattr__(self, "kinds", MappingProxyType(kinds))

    @property
    def zone(self) -> tzinfo:
        """The property's time zone."""
        return self.starts_at.tzinfo or UTC

    @property
    def starts_at_s(self) -> float:
        """Seconds after midnight at which it begins."""
        begin = self.starts_at
        return timedelta(hours=begin.hour, minutes=begin.minute).total_seconds()


def find_scenario(name: str) -> Path:
    """The file of a scenario: a path, or the name of a shipped one. Raises `ConfigurationError`."""
    for path in (Path(name), SHIPPED / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    reason = f"there is no such file, and no shipped scenario of that name ({', '.join(shipped)})"
    raise ConfigurationError([Fault(name, "", reason, nearest=nearest(name, shipped))])


def load_scenario(path: Path, shown: str | None = None) -> Scenario:
    """Read a scenario file, which faults and reports name as ``shown``. Raises `ConfigurationError`."""
    shown = str(path) if shown is None else shown
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(shown, "", f"cannot be read: {error}")]) from error
    return parse_scenario(text, shown)


def parse_scenario(text: str, file: str) -> Scenario:
    """Check a scenario. Raises `ConfigurationError` with every fault in it."""
    faults: list[Fault] = []
    top = Entry(_spelled(parse_yaml(text, file)), "", file, faults)
    scenario = _read(top, file)
    if faults:
        raise ConfigurationError(faults)
    return scenario


def _spelled(tree: Tree) -> Tree:
    """``not before`` and ``not-before`` are ``not_before``; what stands under a key is left as it is written."""
    match tree:
        case Fields():
            spelled = Fields()
            for key, value in tree.items():
                right = key.strip().replace(" ", "_").replace("-", "_")
                if right in tree and right != key:
                    right = key
                spelled[right] = _spelled(value)
                if key in tree.lines:
                    spelled.lines[right] = tree.lines[key]
            return spelled
        case list():
            for place, item in enumerate(tree):
                tree[place] = _spelled(item)
    return tree


def _read(top: Entry, file: str) -> Scenario:
    top.known(_KEYS, required=("name", "devices"))
    seed, rate = whole(top, "seed", 0, 2**63), number(top, "rate", 0.001, 100_000, "/s")
    cast, registry = read_cast(top, file, seed or 0, SITE)
    timeline = read_timeline(top, cast)
    expectations = read_expectations(top, cast, timeline)
    bounded = [one for place, one in enumerate(expectations.expect) if place not in expectations.open_ended]
    last_s = max([*(one.at_s for one in timeline), *(one.until_s for one in bounded)], default=0.0)
    duration_s = span(top, "duration", high_s=_LONGEST_S)
    if duration_s is not None and duration_s < last_s:
        top.fault("duration", f"ends before the story does, at {last_s:.0f} s", value=top.text("duration"))
    last_s = max([last_s, *(one.end_s for one in bounded)])
    end_s = duration_s if duration_s is not None else last_s + _AFTERMATH_S
    return Scenario(
        name=top.text("name") or "",
        file=file,
        description=_description(top),
        placements=cast.placements,
        timeline=timeline,
        expect=expectations.until(end_s),
        duration_s=end_s,
        seed=seed or 0,
        rate=rate,
        starts_at=_starts_at(top),
        others_forbidden=expectations.others_forbidden,
        allowed=expectations.allowed,
        registry=registry,
        named_rules=() if top.faults_so_far else tuple(named_rules(top)),
    )


def _description(top: Entry) -> dict[str, str]:
    if isinstance(text := top.fields.get("description"), str):
        return {"en": text, "zh": text}
    entry = top.entry("description")
    if entry is None:
        return {}
    entry.known(("en", "zh"))
    return {language: entry.text(language) or "" for language in ("en", "zh") if entry.has(language)}


def _starts_at(top: Entry) -> datetime:
    zone = ZoneInfo(TIMEZONE)
    if (name := top.text("timezone")) is not None:
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            top.fault("timezone", "is no time zone such as Asia/Shanghai", value=name)
    day, clock = A_DAY, timedelta(seconds=MORNING_S)
    if (text := top.text("starts_at")) is not None:
        found = _STARTS_AT.match(text)
        try:
            if found is not None:
                day = date.fromisoformat(found[1]) if found[1] else A_DAY
                clock = timedelta(hours=int(found[2]), minutes=int(found[3]))
        except ValueError:
            found = None
        if found is None:
            top.fault("starts_at", "must be a time of day such as 07:30, or 2026-02-17 07:30", value=text)
    return datetime.combine(day, time(), zone) + clock
