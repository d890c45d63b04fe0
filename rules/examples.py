"""A rule's own examples: what a device says, and the alarm changes that must follow, at exactly which times.

`read_examples` reads them from a rule file, `run` plays them through the engine that serves live traffic.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from math import isfinite

import msgspec

from devices.kinds import KINDS, Kind
from devices.readings import Channel, Reading, Scalar, address_of
from rules.alarms import AlarmChange, Transition
from rules.definitions import Example, Expected, Rule, RuleSet, Step
from rules.engine import Engine
from rules.entries import Entry, read_duration, write_duration
from rules.hours import Calendar
from rules.state import Device
from rules.terms import Learning

EPOCH_MS = 1_767_225_600_000
"""When an example begins that does not say: 2026-01-01T00:00:00Z, a Thursday."""

SITE = "example"
DEVICE = "device-1"

_KEYS = frozenset({"name", "readings", "events", "expect", "until", "begin", "holidays", "usual"})
_CHANGES = (
    Transition.RAISED, Transition.RERAISED, Transition.ESCALATED, Transition.CLEARED, Transition.CHANGED,
)  # fmt: skip
"""What can happen where no person acts."""


def read_examples(rule: Entry, kind: Kind) -> tuple[Example, ...]:
    """The examples of one rule entry, values converted and checked as a decoder would; faults go into it."""
    examples = []
    for entry in rule.entries("examples"):
        entry.known(_KEYS, required=["name", "expect"])
        name = entry.text("name")
        steps = [*_steps(entry, "readings", kind.telemetry), *_event_steps(entry, kind)]
        if not steps:
            entry.fault(None, "an example needs `readings` or `events`")
        steps.sort(key=lambda step: step.at_ms)
        expect = sorted(_expected(entry), key=lambda expected: expected.at_ms)
        last = max([0, *(step.at_ms for step in steps), *(expected.at_ms for expected in expect)])
        until = entry.duration("until")
        if until is not None and until < last:
            reason = f"is before the last reading, event or expectation, {write_duration(last)}"
            entry.fault("until", reason, value=write_duration(until))
        begin = _begin(entry)
        until_ms = last if until is None else until
        holidays, usual = _holidays(entry), _usual(entry)
        examples.append(Example(name or "", tuple(steps), tuple(expect), until_ms, begin, holidays, usual))
    return tuple(examples)


def run(rule: Rule) -> list[str]:
    """Play every example of ``rule``, alone and from the beginning. Returns the mismatches, if any."""
    return [mismatch for example in rule.examples for mismatch in _mismatches(rule, example)]


def _mismatches(rule: Rule, example: Example) -> list[str]:
    expected = sorted((step.at_ms, step.change) for step in example.expect)
    happened = sorted(
        (change.at - example.begin_ms, str(change.transition)) for change in _play(rule, example)
    )
    missing, surplus = list(expected), []
    for moment in happened:
        if moment in missing:
            missing.remove(moment)
        else:
            surplus.append(moment)
    where = f"{rule.file}: {rule.id}: {example.name}"
    return [
        *(f"{where}: {change} did not come at {write_duration(at)}" for at, change in missing),
        *(f"{where}: {change} came at {write_duration(at)}, unexpected" for at, change in surplus),
    ]


def _play(rule: Rule, example: Example) -> list[AlarmChange]:
    calendar = Calendar(holidays=example.holidays)
    engine = Engine(RuleSet((rule,), "example", calendar), site=SITE, node="example")
    state = engine.new_state()
    address = address_of(SITE, rule.kind, DEVICE)
    if example.usual:
        state.devices[address] = _taught(rule, example)
    changes: list[AlarmChange] = []
    for step in example.steps:
        now = example.begin_ms + step.at_ms
        channel = Channel.EVENT if step.event else Channel.TELEMETRY
        reading = Reading(channel, address, dict(step.values), source_time=now, received_at=now)
        changes += engine.step(state, reading, now).changes
    return [*changes, *engine.tick(state, example.begin_ms + example.until_ms).changes]


def _begin(entry: Entry) -> int:
    text = entry.text("begin")
    if text is None:
        return EPOCH_MS
    try:
        return int(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        entry.fault("begin", "must be a day and a time, such as 2026-01-05 21:30", value=text)
        return EPOCH_MS


def _holidays(entry: Entry) -> frozenset[date]:
    days = set[date]()
    for text in entry.texts("holidays"):
        try:
            days.add(date.fromisoformat(text))
        except ValueError:
            entry.fault("holidays", "must be days such as 2026-01-01", value=text)
    return frozenset(days)


def _taught(rule: Rule, example: Example) -> Device:
    """A device that has learnt before the example begins; not heard yet."""
    points: dict[str, Scalar] = dict.fromkeys(KINDS[rule.kind].limited, False)
    device = Device(address_of(SITE, rule.kind, DEVICE), rule.kind, points)
    for term in rule.terms.values():
        value = example.usual.get(term.name, example.usual.get(term.name.removesuffix("()")))
        if value is not None and isinstance(term, Learning):
            term.assume(device, value)
    return device


def _usual(entry: Entry) -> Mapping[str, float]:
    below = entry.entry("usual")
    usual: dict[str, float] = {}
    for name in below.fields if below is not None else ():
        value = below.text(name) if below is not None else None
        ms = read_duration(value or "")
        try:
            usual[name] = float(value or "") if ms is None else ms / 1000
        except ValueError:
            entry.fault("usual", f"{name} needs a number or a duration", value=value)
    return usual


def _event_steps(entry: Entry, kind: Kind) -> list[Step]:
    if kind.event is not None:
        return _steps(entry, "events", kind.event, event=True)
    if entry.has("events"):
        entry.fault("events", f"{kind.name} sends none")
    return []


def _steps(entry: Entry, key: str, schema: type[msgspec.Struct], *, event: bool = False) -> list[Step]:
    steps = []
    for moment in entry.entries(key):
        moment.known(["at", *schema.__struct_fields__], required=["at"])
        at_ms = moment.duration("at")
        values = _values(moment, schema)
        if at_ms is not None and values is not None:
            steps.append(Step(at_ms, values, event))
    return steps


def _values(moment: Entry, schema: type[msgspec.Struct]) -> Mapping[str, Scalar] | None:
    names = [name for name in moment.fields if name in schema.__struct_fields__]
    told = {name: value for name in names if (value := moment.text(name)) is not None}
    try:
        struct = msgspec.convert(told, schema, strict=False)
    except msgspec.ValidationError as error:
        moment.fault(None, str(error))
        return None
    values: dict[str, Scalar] = {}
    for name in names:
        value = getattr(struct, name)
        if value is msgspec.UNSET or (isinstance(value, float) and not isfinite(value)):
            moment.fault(name, "needs a value; a point that the message does not hold is left out")
            continue
        values[name] = value.value if isinstance(value, Enum) else value
    return values


def _expected(entry: Entry) -> Sequence[Expected]:
    expected = []
    for moment in entry.entries("expect"):
        moment.known(["at", "change"], required=["at", "change"])
        at_ms = moment.duration("at")
        change = moment.word("change", [str(change) for change in _CHANGES])
        if at_ms is not None and change is not None:
            expected.append(Expected(at_ms, change))
    return expected
