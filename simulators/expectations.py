"""What a right gateway must do in a story, and must not: values, and how a file says them.

An expectation is about changes of alarms, about orders to devices, or about how an alarm stands at a moment. It says
how many there must be between two moments; ``never`` is none. Times count from ``after``: a moment of the story, the
name of a line (``as``), or by itself the first thing that happens to one of its devices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from devices.faults import nearest
from devices.kinds import KINDS
from rules.alarms import AlarmState, Severity
from rules.language.entries import Entry
from simulators.casting import WHO, Cast, Who
from simulators.causes import Cause
from simulators.spans import Bounds, bounds, read_span, span, write_moment

ONE = Bounds(1)
NONE = Bounds(0, 0)


class Subject(StrEnum):
    """What an expectation is about."""

    CHANGE = "alarm"
    ORDER = "order"
    STATE = "state"


CHANGES = ("raised", "reraised", "cleared", "acked", "closed", "cancelled", "escalated", "changed")
"""What can happen to an alarm. ``raised`` is also said of one that is raised again, ``changed`` of every change that
has no word of its own."""

STATES = (*(state.value for state in AlarmState if state is not AlarmState.NORMAL), "standing", "absent")
"""How an alarm can stand: ISA-18.2's words, in whatever state, not at all."""

RESULTS = ("done", "rejected", "failed")

COMMANDS = sorted({name for kind in KINDS.values() for name in kind.commands})

_ALARM_KEYS = frozenset(
    {
        "alarm",
        "rule",
        "change",
        "severity",
        "after",
        "within",
        "by",
        "not_before",
        "clears_within",
        "occurrences",
        "late",
        "drill",
        "count",
        "any",
        "note",
        *WHO,
    }
)
_STATE_KEYS = frozenset(
    {"alarm", "rule", "state", "at", "severity", "occurrences", "late", "drill", "any", "note", *WHO}
)
_ORDER_KEYS = frozenset(
    {"order", "result", "after", "within", "by", "not_before", "count", "any", "note", *WHO}
)
_NEVER_ALARM_KEYS = frozenset(
    {"alarm", "rule", "change", "severity", "late", "drill", "after", "within", "by", "note", *WHO}
)
_NEVER_ORDER_KEYS = frozenset({"order", "result", "after", "within", "by", "note", *WHO})


@dataclass(frozen=True, slots=True)
class Expectation:
    """So many of something, between ``after_s`` and ``until_s`` of the story."""

    alarm: str
    """The rule's id, or a pattern; of an order, the command."""
    device: str
    """As people read it: a device, or the words by which several are named; empty for any."""
    change: str
    """One of `CHANGES`; of an order, its result or ``given``; of a state, one of `STATES`."""
    after_s: float
    until_s: float
    subject: Subject = Subject.CHANGE
    devices: frozenset[str] | None = None
    """None: any."""
    count: Bounds = ONE
    earliest_s: float | None = None
    """Sooner is wrong."""
    clears_within_s: float | None = None
    """So long after it came it must be over."""
    severity: Severity | None = None
    occurrences: Bounds | None = None
    late: bool | None = None
    drill: bool | None = None
    alarm_id: str | None = None
    """One alarm and no other."""
    note: str = ""

    @property
    def forbidden(self) -> bool:
        """There must be none."""
        return self.count == NONE

    @property
    def end_s(self) -> float:
        """When it can be judged."""
        return self.until_s + (self.clears_within_s or 0.0)

    def is_about(self, rule: str, device: str) -> bool:
        """Whether it is about this rule, or command, and this device."""
        return (self.devices is None or device in self.devices) and self.names(rule)

    def names(self, rule: str) -> bool:
        """Whether it is about this rule, or command, of whatever device."""
        return fnmatchcase(rule, self.alarm)

    def __str__(self) -> str:
        """What a person reads."""
        what = f"{self.alarm} of {self.device}" if self.device else self.alarm
        match self.subject:
            case Subject.ORDER:
                what = f"order {what} {self.change}"
            case Subject.STATE:
                return f"{what} {self.change} at {write_moment(self.until_s)}"
            case _:
                what = f"{what} {self.change}"
        if self.forbidden:
            return f"never {what}"
        many = "" if self.count == ONE else f" ({self.count})"
        return f"{what}{many} by {write_moment(self.until_s)}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """An alarm that may be raised although nobody expects it."""

    alarm: str
    devices: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Expectations:
    """All that a scenario says of its end."""

    expect: tuple[Expectation, ...] = ()
    others_forbidden: bool = False
    allowed: tuple[Allowed, ...] = ()
    open_ended: frozenset[int] = field(default_factory=frozenset)
    """Places in ``expect`` whose end is the story's end."""

    def until(self, end_s: float) -> tuple[Expectation, ...]:
        """The expectations, those without an end ended with the story."""
        return tuple(
            replace(one, until_s=end_s) if place in self.open_ended else one
            for place, one in enumerate(self.expect)
        )


def read_expectations(top: Entry, cast: Cast, timeline: Sequence[Cause]) -> Expectations:
    """``expect``, ``never``, ``only`` and ``other_alarms``; faults go into the entries."""
    return _Reading(top, cast, timeline).expectations()


class _Reading:
    def __init__(self, top: Entry, cast: Cast, timeline: Sequence[Cause]) -> None:
        self._top = top
        self._cast = cast
        self._timeline = timeline
        self._labels = {cause.label: cause.at_s for cause in timeline if cause.label is not None}
        lines = top.fields.get("timeline")
        self._named = {
            line.get("as") for line in (lines if isinstance(lines, list) else ()) if isinstance(line, dict)
        }
        """Also those of lines that are faulty themselves."""

    def expectations(self) -> Expectations:
        top = self._top
        found: list[Expectation] = []
        for entry in top.entries("expect"):
            found += self._expected(entry)
        open_ended = set()
        for entry in self._listed("never", "alarm"):
            for one in self._never(entry):
                if math.isinf(one.until_s):
                    open_ended.add(len(found))
                found.append(one)
        others = top.word("other_alarms", ("allowed", "forbidden"))
        allowed: list[Allowed] = []
        forbidden = others == "forbidden"
        if "only" in top.fields:
            forbidden = True
            for entry in self._listed("only", "alarm"):
                entry.known({"alarm", "rule", "note", *WHO})
                alarm, who = _rule(entry), self._cast.who(entry)
                if alarm is not None:
                    allowed.append(Allowed(alarm, None if who is None else frozenset(who.devices)))
        return Expectations(tuple(found), forbidden, tuple(allowed), frozenset(open_ended))

    def _listed(self, key: str, word: str) -> list[Entry]:
        """Entries of a list in which a single word stands for ``{alarm: word}``; ``expected`` and ``true`` for none."""
        value = self._top.fields.get(key)
        if value is None or value in ("expected", "true"):
            return []
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, str):
                    value[place] = {"order": item} if item in COMMANDS else {word: item}
            self._top.fields[key] = value
        return self._top.entries(key)

    # --- what must come -----------------------------------------------------------------------------------

    def _expected(self, entry: Entry) -> list[Expectation]:
        if entry.has("order"):
            entry.known(_ORDER_KEYS)
            return self._timed(entry, self._order(entry))
        if entry.has("state"):
            entry.known(_STATE_KEYS, required=("at",))
            return self._state(entry)
        entry.known(_ALARM_KEYS, required=() if entry.has("rule") else ("alarm",))
        return self._timed(entry, self._change(entry))

    def _change(self, entry: Entry) -> Expectation | None:
        alarm, severity = _rule(entry), entry.word("severity", [str(one) for one in Severity])
        change = entry.word("change", CHANGES) or "raised"
        if alarm is None:
            return None
        return Expectation(
            alarm,
            "",
            change,
            0.0,
            math.inf,
            clears_within_s=span(entry, "clears_within") if entry.has("clears_within") else None,
            severity=None if severity is None else Severity(severity),
            occurrences=bounds(entry, "occurrences") if entry.has("occurrences") else None,
            late=_truth(entry, "late"),
            drill=_truth(entry, "drill"),
            note=(entry.text("note") or "") if entry.has("note") else "",
        )

    def _order(self, entry: Entry) -> Expectation | None:
        command, result = entry.word("order", COMMANDS), entry.word("result", RESULTS)
        if command is None:
            return None
        note = entry.text("note") or ""
        return Expectation(command, "", result or "given", 0.0, math.inf, Subject.ORDER, note=note)

    def _timed(self, entry: Entry, one: Expectation | None) -> list[Expectation]:
        who = self._cast.who(entry)
        after_s = self._after(entry, () if who is None else who.devices)
        within_s, by_s, earliest_s = span(entry, "within"), span(entry, "by"), span(entry, "not_before")
        if within_s is None and by_s is None:
            if not entry.has("within") and not entry.has("by"):
                entry.fault("within", "is missing; say how soon, or `by` which time of the story")
            return []
        if within_s is not None and by_s is not None:
            entry.fault("by", "says the same as `within`; one of them")
        count, any_ = bounds(entry, "count"), entry.truth("any")
        if count is not None and any_:
            entry.fault("any", "says how many, as `count` does; one of them")
        if one is None:
            return []
        until_s = by_s if by_s is not None else after_s + (within_s or 0.0)
        earliest = None if earliest_s is None else after_s + earliest_s
        if until_s < (earliest if earliest is not None else after_s):
            entry.fault("by" if by_s is not None else "not_before", "leaves no time for it")
        one = replace(one, after_s=after_s, until_s=until_s, earliest_s=earliest)
        if count is not None or any_ or who is None:
            return [_of(one, who, count or ONE)]
        return [replace(one, device=device, devices=frozenset((device,))) for device in self._meant(one, who)]

    def _meant(self, one: Expectation, who: Who) -> Sequence[str]:
        """Each device; where they are named by their place, those of the kind that the rule or order is about."""
        if not who.by_place:
            return who.devices
        if one.subject is Subject.ORDER:
            kinds = {name for name, kind in KINDS.items() if one.alarm in kind.commands}
        else:
            kinds = {name for name in KINDS if one.alarm.startswith(f"{name}-")}
        return [device for device in who.devices if self._cast.kinds[device] in kinds] or who.devices

    def _state(self, entry: Entry) -> list[Expectation]:
        one, who = self._change(entry), self._cast.who(entry)
        state, at_s = entry.word("state", STATES), span(entry, "at")
        if one is None or state is None or at_s is None:
            return []
        one = replace(one, change=state, after_s=at_s, until_s=at_s, subject=Subject.STATE)
        if who is None or entry.truth("any"):
            return [_of(one, who, ONE)]
        return [replace(one, device=device, devices=frozenset((device,))) for device in self._meant(one, who)]

    # --- what must not come -------------------------------------------------------------------------------

    def _never(self, entry: Entry) -> list[Expectation]:
        if entry.has("order"):
            entry.known(_NEVER_ORDER_KEYS)
            one = self._order(entry)
        else:
            entry.known(_NEVER_ALARM_KEYS, required=() if entry.has("rule") else ("alarm",))
            one = self._change(entry)
        who = self._cast.who(entry)
        after_s = self._after(entry, ()) if entry.has("after") else 0.0
        within_s, by_s = span(entry, "within"), span(entry, "by")
        until_s = by_s if by_s is not None else math.inf if within_s is None else after_s + within_s
        if one is None:
            return []
        return [_of(replace(one, after_s=after_s, until_s=until_s), who, NONE)]

    # --- times --------------------------------------------------------------------------------------------

    def _after(self, entry: Entry, devices: Sequence[str]) -> float:
        text = entry.text("after")
        if text is None:
            touched = set(devices)
            return next(
                (
                    cause.at_s
                    for cause in self._timeline
                    if not cause.initial and touched.intersection(cause.devices)
                ),
                0.0,
            )
        if text in self._labels:
            return self._labels[text]
        if text in self._named:
            return 0.0
        ms = read_span(text)
        if ms is None or ms < 0:
            reason = "must be a time of the story such as 10s, or the name of a line (`as`) of the timeline"
            entry.fault("after", reason, value=text, nearest=nearest(text, self._labels))
            return 0.0
        return ms / 1_000


def _of(one: Expectation, who: Who | None, count: Bounds) -> Expectation:
    if who is None:
        return replace(one, count=count)
    return replace(one, device=who.label, devices=frozenset(who.devices), count=count)


def _rule(entry: Entry) -> str | None:
    if entry.has("rule") and entry.has("alarm"):
        entry.fault("rule", "says the same as `alarm`; one of them")
    return entry.text("rule") if entry.has("rule") else entry.text("alarm")


def _truth(entry: Entry, key: str) -> bool | None:
    return entry.truth(key) if entry.has(key) else None
