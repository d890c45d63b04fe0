"""Why an alarm came, as programs are told: the JSON of `anlin alarms explain` and of the API. Values only.

Made of what the alarm itself keeps (`rules.explanation`), so it tells what was so then, whatever the rules say by now.
In words it is told by `edge.shell.explanations`.
"""

import msgspec

from devices.readings import Scalar
from rules.alarms import Alarm, AlarmState, Severity, Superseded, rfc3339
from rules.explanation import Sway


class SeenView(msgspec.Struct, frozen=True):
    """A value that the condition looked at."""

    name: str
    value: Scalar | None
    at: str | None
    private: bool
    duration: bool
    """The value is in seconds."""


class RiseView(msgspec.Struct, frozen=True):
    """A rise in severity, foreseen."""

    after_ms: int
    severity: str


class LimitsView(msgspec.Struct, frozen=True):
    """What was in force, as the rule file says it."""

    when: str | None
    clear: str | None
    cancel: str | None
    let: dict[str, str]
    for_ms: int
    silent_for_ms: int | None
    clear_for_ms: int
    clear_after_ms: int
    cooldown_ms: int
    active: str | None
    escalate: list[RiseView]


class RisenView(msgspec.Struct, frozen=True):
    """A rise in severity that came."""

    severity: str
    at: str


class InfluenceView(msgspec.Struct, frozen=True):
    """What kept people from being told of it by itself, or ended that."""

    what: Sway
    by: str
    at: str


class ExplanationView(msgspec.Struct, frozen=True):
    """The explanation of one alarm, as the API gives it. Times are RFC 3339; durations in ms but where it says so."""

    id: str
    key: str
    rule: str
    rule_version: str
    severity: Severity
    state: AlarmState
    late: bool
    raised_at: str
    since: str | None
    so_at: str | None
    seen: list[SeenView]
    seen_more: int
    limits: LimitsView
    waited_ms: int
    withheld: int
    rises: list[RisenView]
    influences: list[InfluenceView]
    closed_by_person: bool
    found: bool
    superseded: Superseded | None


def view_of(alarm: Alarm) -> ExplanationView | None:
    """Why ``alarm`` came; None where it was stored before alarms kept that."""
    why = alarm.why
    if why is None:
        return None
    return ExplanationView(
        id=alarm.id,
        key=alarm.key,
        rule=alarm.rule,
        rule_version=why.version,
        severity=alarm.severity,
        state=alarm.state,
        late=alarm.late,
        raised_at=rfc3339(alarm.raised_at) or "",
        since=rfc3339(why.since),
        so_at=rfc3339(why.so_at),
        seen=[SeenView(s.name, s.value, rfc3339(s.at), s.private, s.lasting) for s in why.samples],
        seen_more=why.left_out,
        limits=LimitsView(
            when=why.when,
            clear=why.clear,
            cancel=why.cancel,
            let=why.let,
            for_ms=why.for_ms,
            silent_for_ms=why.silent_for_ms,
            clear_for_ms=why.clear_for_ms,
            clear_after_ms=why.clear_after_ms,
            cooldown_ms=why.cooldown_ms,
            active=why.active,
            escalate=[RiseView(after_ms, severity) for after_ms, severity in why.escalate],
        ),
        waited_ms=why.waited_ms,
        withheld=why.withheld,
        rises=[RisenView(each.severity, rfc3339(each.at) or "") for each in why.rises],
        influences=[InfluenceView(each.what, each.by, rfc3339(each.at) or "") for each in why.influences],
        closed_by_person=why.person,
        found=why.found,
        superseded=alarm.superseded,
    )
