"""A rule's own examples: what a device says, and the alarm changes that must follow, at exactly which times.

`read_examples` reads them from a rule file, `run` plays them through the engine that serves live traffic.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from math import isfinite

import msgspec

from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Address, Channel, Reading, Scalar
from devices.registry import Device as Registered
from rules.alarms import AlarmChange, AlarmState, Transition
from rules.casts import Cast, kind_of_line, read_devices
from rules.definitions import Example, Expected, Rule, RuleSet, Step
from rules.engine import Engine
from rules.hours import Calendar
from rules.language.entries import Entry, read_duration, write_duration
from rules.state import Device
from rules.terms import Learning

EPOCH_MS = 1_767_225_600_000
"""When an example begins that does not say: 2026-01-01T00:00:00Z, a Thursday."""

SITE = "example"
NODE = "example"
DEVICE = "device-1"

_KEYS = frozenset(
    {"name", "readings", "events", "expect", "until", "begin", "holidays", "usual", "devices", "with"}
)
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
        devices = read_devices(entry, kind, SITE)
        steps = [*_steps(entry, "readings", kind, devices), *_steps(entry, "events", kind, devices)]
        if not steps:
            entry.fault(None, "an example needs `readings` or `events`")
        steps.sort(key=lambda step: step.at_ms)
        expect = sorted(_expected(entry), key=lambda expected: expected.at_ms)
        last = max([0, *(step.at_ms for step in steps), *(expected.at_ms for expected in expect)])
        until = entry.duration("until")
        if until is not None and until < last:
            reason = f"is before the last reading, event or expectation, {write_duration(last)}"
            entry.fault("until", reason, value=write_duration(until))
        begin, until_ms = _begin(entry), last if until is None else until
        played = Example(
            name=name or "",
            steps=tuple(steps),
            expect=tuple(expect),
            until_ms=until_ms,
            begin_ms=begin,
            holidays=_holidays(entry),
            usual=_usual(entry),
            devices=devices,
            beside=tuple(entry.texts("with")),
        )
        examples.append(played)
    return tuple(examples)


def run(rule: Rule, rules: RuleSet | None = None) -> list[str]:
    """Play every example of ``rule`` from the beginning, alone or with those of ``rules`` that it names.

    Returns the mismatches, if any.
    """
    return [mismatch for example in rule.examples for mismatch in _mismatches(rule, example, rules)]


def _mismatches(rule: Rule, example: Example, rules: RuleSet | None) -> list[str]:
    where = f"{rule.file}: {rule.id}: {example.name}"
    others = {each.id: each for each in rules.rules} if rules is not None else {}
    absent = [name for name in example.beside if name not in others]
    if absent:
        return [f"{where}: there is no rule {name} to play it with" for name in absent]
    calendar = Calendar(holidays=example.holidays)
    played = RuleSet((rule, *(others[name] for name in example.beside)), "example", calendar)
    surplus = []
    missing = sorted(example.expect, key=lambda each: (each.at_ms, each.device is None, each.state is None))
    changes = [change for change in _play(played, rule, example) if change.alarm.rule == rule.id]
    for change in sorted(changes, key=lambda each: (each.at, str(each.transition))):
        found = next((each for each in missing if _is(change, each, example.begin_ms)), None)
        if found is None:
            surplus.append(change)
        else:
            missing.remove(found)
    return [
        *(f"{where}: {_told(each)} did not come at {write_duration(each.at_ms)}" for each in missing),
        *(
            f"{where}: {change.transition} came at {write_duration(change.at - example.begin_ms)}, unexpected"
            for change in surplus
        ),
    ]


def _is(change: AlarmChange, expected: Expected, begin_ms: int) -> bool:
    alarm = change.alarm
    return (
        (change.at - begin_ms, str(change.transition)) == (expected.at_ms, expected.change)
        and expected.device in (None, alarm.device)
        and expected.state in (None, str(alarm.state))
    )


def _told(expected: Expected) -> str:
    whose = f" of {expected.device}" if expected.device is not None else ""
    state = f" as {expected.state}" if expected.state is not None else ""
    return f"{expected.change}{whose}{state}"


def _play(rules: RuleSet, rule: Rule, example: Example) -> list[AlarmChange]:
    cast = Cast(SITE, rule.kind, DEVICE, example.devices)
    engine = Engine(rules, site=SITE, node=NODE, place_of=cast.place_of, around=cast.around)
    state = engine.new_state()
    if example.usual:
        address = cast.address(None)
        state.devices[address] = _taught(rule, example, address)
    changes: list[AlarmChange] = []
    for step in example.steps:
        now = example.begin_ms + step.at_ms
        channel = Channel.EVENT if step.event else Channel.TELEMETRY
        address = cast.address(step.device)
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


def _taught(rule: Rule, example: Example, address: Address) -> Device:
    """A device that has learnt before the example begins; not heard yet."""
    points: dict[str, Scalar] = dict.fromkeys(KINDS[rule.kind].limited, False)
    device = Device(address, rule.kind, points)
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


def _steps(entry: Entry, key: str, kind: Kind, devices: Sequence[Registered]) -> list[Step]:
    steps = []
    for moment in entry.entries(key):
        speaker = kind_of_line(moment, kind, devices)
        schema = speaker.event if key == "events" else speaker.telemetry
        if schema is None:
            entry.fault("events", f"{speaker.name} sends none")
            continue
        moment.known(["at", "device", *schema.__struct_fields__], required=["at"])
        at_ms = moment.duration("at")
        values = _values(moment, schema)
        if at_ms is not None and values is not None:
            steps.append(Step(at_ms, values, key == "events", moment.text("device")))
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
        moment.known(["at", "change", "device", "state"], required=["at", "change"])
        at_ms = moment.duration("at")
        change = moment.word("change", [str(change) for change in _CHANGES])
        state = moment.word("state", [str(each) for each in AlarmState])
        if at_ms is not None and change is not None:
            expected.append(Expected(at_ms, change, moment.text("device"), state))
    return expected
