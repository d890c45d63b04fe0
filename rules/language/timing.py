"""The keys of a rule that are about time: ``clear_for clear_after cooldown escalate active safety``.

Read from the rule file into values; faults go into the entry. What may not stand together is refused here: nothing
may withhold critical or what concerns safety, and nothing but a person or its own end may take it off the board.
"""

from dataclasses import dataclass

from devices.faults import nearest
from rules.alarms import Severity
from rules.definitions import Condition, Rise
from rules.hours import DAYS, MIDNIGHT, Holidays, Hours, read_window
from rules.language.entries import Entry

TIMING_KEYS = frozenset({"clear_for", "clear_after", "cooldown", "escalate", "active", "safety"})

_LEAST_MS = 1_000
_WINDOWS_MOST = 24


@dataclass(frozen=True, slots=True)
class Timing:
    """As the fields of a `rules.definitions.Rule`."""

    clear_for_ms: int
    clear_after_ms: int
    cooldown_ms: int
    escalate: tuple[Rise, ...]
    active: Hours | None
    safety: bool


def read_timing(entry: Entry, severity: Severity) -> Timing:
    """What one rule says of time, each key by itself and beside ``severity``."""
    timing = Timing(
        clear_for_ms=entry.duration("clear_for", least_ms=_LEAST_MS) or 0,
        clear_after_ms=entry.duration("clear_after", least_ms=_LEAST_MS) or 0,
        cooldown_ms=entry.duration("cooldown", least_ms=_LEAST_MS) or 0,
        escalate=_escalate(entry, severity),
        active=_hours(entry),
        safety=entry.truth("safety"),
    )
    worst = timing.escalate[-1].severity if timing.escalate else severity
    if worst is Severity.CRITICAL:
        for key, reason in (
            ("cooldown", "critical is never withheld: a rule that is or becomes critical has no cooldown"),
            ("clear_after", "critical never ends by itself: leave it out, a person closes the alarm"),
        ):
            if entry.has(key):
                entry.fault(key, reason)
    if timing.safety:
        for key in ("cooldown", "active", "clear_after"):
            if entry.has(key):
                entry.fault(key, "nothing may withhold or end an alarm of a rule with `safety: true`")
    return timing


def check_endings(entry: Entry, when: Condition, clear: Condition | None) -> None:
    """Refuse an off-delay without an end that lasts, and forgetting what ends by itself."""
    if entry.has("clear_for"):
        if clear is None and when.uses_event:
            entry.fault("clear_for", "an event has no end of its own: say `clear`, or `clear_after`")
        elif clear is not None and clear.uses_event:
            entry.fault(
                "clear_for", "an event has no duration, so `clear` cannot hold so long", value=clear.source
            )
    if entry.has("clear_after"):
        if not when.uses_event:
            entry.fault(
                "clear_after", "only a rule whose `when` looks at an event needs it: others end by themselves"
            )
        elif entry.has("clear_for"):
            entry.fault("clear_after", "stands instead of `clear_for`, not beside it")


def _escalate(entry: Entry, severity: Severity) -> tuple[Rise, ...]:
    rises: list[Rise] = []
    if isinstance(entry.fields.get("escalate"), dict):
        step = entry.entry("escalate")
        steps = [] if step is None else [step]
    else:
        steps = entry.entries("escalate")
    for step in steps:
        step.known({"after", "severity"}, required=["after", "severity"])
        after_ms = step.duration("after", least_ms=_LEAST_MS)
        word = step.word("severity", [str(each) for each in Severity])
        if after_ms is None or word is None:
            continue
        rise = Rise(after_ms, Severity(word))
        before = rises[-1].severity if rises else severity
        if rise.severity.rank >= before.rank:
            step.fault("severity", f"must be worse than {before}, which it rises from", value=word)
        elif rises and rise.after_ms <= rises[-1].after_ms:
            step.fault("after", "must be longer than the step before; both count from when it was raised")
        else:
            rises.append(rise)
    return tuple(rises)


def _hours(entry: Entry) -> Hours | None:
    active = entry.entry("active")
    if active is None:
        return None
    active.known({"days", "hours", "holidays"})
    if entry.fields.get("active") == {}:
        active.fault(None, "needs `days`, `hours` or `holidays`")
    days = set[int]()
    for word in active.texts("days"):
        if word not in DAYS:
            active.fault("days", f"must be of {', '.join(DAYS)}", value=word, nearest=nearest(word, DAYS))
        else:
            days.add(DAYS.index(word))
    windows = []
    written = active.texts("hours")
    for text in written:
        window = read_window(text)
        if window is None:
            active.fault("hours", "must be such as 08:00-18:00, or 22:00-06:00 for a night", value=text)
        else:
            windows.append(window)
    if len(written) > _WINDOWS_MOST:
        active.fault("hours", f"{len(written)} windows, at most {_WINDOWS_MOST}")
    holidays = active.word("holidays", [str(each) for each in Holidays])
    return Hours(
        frozenset(days or range(len(DAYS))),
        tuple(sorted(windows)) or ((0, MIDNIGHT),),
        None if holidays is None else Holidays(holidays),
    )
