"""What rules say of time: off-delay, cooldown, clearing by itself, rising severity, hours; and why an alarm came."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.faults import ConfigurationError, Fault
from devices.readings import Address, Channel, Flag, Reading, Scalar
from rules.alarms import Alarm, AlarmChange, AlarmState, Severity, Transition
from rules.decisions import (
    Acknowledge,
    CatchingUp,
    ClockStepped,
    ClockUntrusted,
    Close,
    Decision,
    Input,
    Listening,
    time_of,
)
from rules.engine import Engine
from rules.explanation import Risen
from rules.files import parse
from rules.hours import Calendar
from rules.state import State, freeze, thaw
from simulators.rehearsal import rehearse
from simulators.scenario import parse_scenario
from simulators.verdicts import Change

T0 = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)  # a Sunday, at noon
PORT = Address("c1/charger/p1")
BUTTON = Address("c1/button/b1")
LIFT = Address("c1/elevator/l1")
MINUTE, HOUR = 60, 3_600

TEXT = "text: {en: it, zh: 它}"
HOT = f"""
  - id: hot
    kind: charger
    when: temperature >= 60
    clear: temperature < 50
    severity: medium
    {TEXT}
"""
PRESS = f"""
  - id: press
    kind: button
    when: action == 'emergency'
    severity: medium
    {TEXT}
"""
EBIKE = f"""
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and type != 'end'
    clear: type == 'end'
    severity: medium
    {TEXT}
"""


def with_lines(rule: str, *lines: str) -> str:
    return "rules:" + rule.rstrip("\n") + "".join(f"\n    {line}" for line in lines) + "\n"


class Site:
    """An engine, its time in seconds after T0, and what it has said."""

    def __init__(self, text: str, calendar: Calendar | None = None) -> None:
        documents = [("rules.yaml", parse_yaml(text, "rules.yaml"))]
        rules = parse(documents, calendar=calendar or Calendar())
        self.engine = Engine(rules, site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.changes: list[AlarmChange] = []
        self._kept: dict[Address, bytes] = {}

    def tell(self, given: Input) -> Decision:
        return self._took(self.engine.step(self.state, given, time_of(given)))

    def at(self, second: float) -> None:
        self._took(self.engine.tick(self.state, ms(second)))

    def hear(self, second: float, address: Address, told: float | None = None, **values: Scalar) -> None:
        so = ms(second if told is None else told)
        channel = Channel.EVENT if values.keys() & {"action", "track"} else Channel.TELEMETRY
        self.tell(Reading(channel, address, dict(values), so, ms(second)))

    def ack(self, second: float) -> None:
        self.tell(Acknowledge(self.alarm().id, "Wang", "on my way", ms(second)))

    def stop(self, second: float) -> None:
        self.tell(Listening(on=False, at=ms(second)))
        self.tell(CatchingUp(on=True, at=ms(second)))

    def back(self, second: float) -> None:
        self.at(second)
        self.tell(Listening(on=True, at=ms(second)))

    def restart(self) -> None:
        header, devices = freeze(self.state)
        self._kept.update(devices)  # those that have changed
        self.state = thaw(header, list(self._kept.items()))
        self.engine.derive_deadlines(self.state)

    def alarm(self) -> Alarm:
        [found] = self.state.alarms.values()
        return found

    @property
    def said(self) -> list[tuple[str, float]]:
        return [(change.transition.value, (change.at - T0) / 1000) for change in self.changes]

    def _took(self, decision: Decision) -> Decision:
        self.changes += decision.changes
        return decision


def ms(second: float) -> int:
    return T0 + round(second * 1000)


def faults(text: str) -> Sequence[Fault]:
    with pytest.raises(ConfigurationError) as told:
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])
    return told.value.faults


# The off-delay


def test_an_alarm_clears_when_what_ends_it_has_held_for_its_off_delay() -> None:
    site = Site(with_lines(HOT, "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.at(HOUR)
    assert site.said == [("raised", 0), ("cleared", 70)]


@pytest.mark.parametrize("relapse", [55, 65])
def test_a_relapse_begins_the_off_delay_anew_inside_the_deadband_too(relapse: float) -> None:
    site = Site(with_lines(HOT, "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.hear(50, PORT, temperature=relapse)
    site.hear(55, PORT, temperature=40)
    site.at(HOUR)
    assert site.said == [("raised", 0), ("cleared", 115)]


def test_the_off_delay_of_a_rule_without_clear_counts_from_when_it_is_false() -> None:
    site = Site(with_lines(HOT.replace("    clear: temperature < 50\n", ""), "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=59)
    site.hear(20, PORT, power=5)  # says nothing of it
    site.restart()
    site.at(HOUR)
    assert site.said == [("raised", 0), ("cleared", 70)]


def test_an_off_delay_that_ran_out_in_a_stop_is_judged_by_the_devices_times() -> None:
    site = Site(with_lines(HOT, "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.stop(20)
    site.back(HOUR)
    site.hear(HOUR + 1, PORT, told=50, temperature=65)  # a relapse in time
    site.hear(HOUR + 1, PORT, told=60, temperature=40)
    site.tell(CatchingUp(on=False, at=ms(HOUR + 2)))
    assert site.said == [("raised", 0), ("cleared", 120)]


def test_a_relapse_after_the_off_delay_in_a_stop_is_another_occurrence() -> None:
    site = Site(with_lines(HOT, "clear_for: 1m", "ack: required"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.stop(20)
    site.back(HOUR)
    site.hear(HOUR + 1, PORT, told=90, temperature=65)
    assert site.said == [("raised", 0), ("cleared", 70), ("reraised", HOUR + 1)]


def test_where_nobody_knows_when_a_relapse_was_the_alarm_stands() -> None:
    site = Site(with_lines(HOT, "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.stop(20)
    site.back(HOUR)
    site.hear(HOUR + 1, PORT, temperature=65)  # tells no time of its own
    site.tell(CatchingUp(on=False, at=ms(HOUR + 2)))
    assert site.said == [("raised", 0)]


# Clearing by itself


def test_an_event_alarm_clears_by_itself_so_long_after_the_last_event() -> None:
    site = Site(with_lines(PRESS, "clear_after: 30m"))
    site.hear(0, BUTTON, action="emergency")
    site.hear(10 * MINUTE, BUTTON, action="emergency")
    site.restart()
    site.at(2 * HOUR)
    assert site.said == [("raised", 0), ("reraised", 10 * MINUTE), ("cleared", 40 * MINUTE)]


def test_a_track_whose_end_is_lost_is_forgotten_so_long_after_it_was_last_seen() -> None:
    site = Site(with_lines(EBIKE, "clear_after: 1m"))
    for second in (0, 20, 40, 90):
        site.hear(second, LIFT, type="update", track="a", label="ebike")
    site.at(HOUR)
    assert site.said == [("raised", 0), ("cleared", 150)]
    assert not site.state.devices[LIFT].ongoing


# Cooldown


def test_in_its_cooldown_a_rule_raises_nothing_and_says_later_how_often_it_would_have() -> None:
    site = Site(with_lines(HOT, "cooldown: 10m"))
    for begin, end in ((0, 10), (60, 70), (120, 130)):
        site.hear(begin, PORT, temperature=70)
        site.hear(end, PORT, temperature=40)
    assert site.said == [("raised", 0), ("cleared", 10)]
    assert site.state.raises_withheld == 2
    site.hear(20 * MINUTE, PORT, temperature=70)
    assert site.said[2:] == [("raised", 20 * MINUTE)]
    why = site.alarm().why
    assert why is not None
    assert why.withheld == 2


def test_what_still_holds_when_the_cooldown_ends_is_raised_then() -> None:
    site = Site(with_lines(HOT, "cooldown: 10m", "for: 5s"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.hear(20, PORT, temperature=70)
    site.restart()
    site.at(HOUR)
    assert site.said == [("raised", 5), ("cleared", 10), ("raised", 10 + 10 * MINUTE)]


def test_the_cooldown_counts_from_when_the_alarm_left_the_board() -> None:
    site = Site(with_lines(HOT, "cooldown: 10m", "ack: required"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.hear(20, PORT, temperature=70)  # it is on the board still: told again
    site.hear(30, PORT, temperature=40)
    site.ack(60)
    site.hear(70, PORT, temperature=70)
    site.at(HOUR)
    assert [each for each in site.said if each[0] != "acked"] == [
        ("raised", 0), ("cleared", 10), ("reraised", 20), ("cleared", 30), ("raised", 60 + 10 * MINUTE),
    ]  # fmt: skip


def test_an_event_in_the_cooldown_is_past_when_it_ends() -> None:
    site = Site(with_lines(PRESS, "cooldown: 10m", "clear_after: 1m"))
    site.hear(0, BUTTON, action="emergency")
    site.hear(2 * MINUTE, BUTTON, action="emergency")
    site.at(HOUR)
    assert site.said == [("raised", 0), ("cleared", MINUTE)]
    assert site.state.raises_withheld == 1


def test_what_ended_in_a_stop_before_the_cooldown_did_is_not_raised() -> None:
    site = Site(with_lines(HOT, "cooldown: 10m", "for: 5s"))
    site.hear(0, PORT, temperature=70)
    site.hear(10, PORT, temperature=40)
    site.hear(20, PORT, temperature=70)
    site.stop(30)
    site.back(HOUR)
    site.hear(HOUR + 1, PORT, told=60, temperature=40)
    site.tell(CatchingUp(on=False, at=ms(HOUR + 2)))
    assert site.said == [("raised", 5), ("cleared", 10)]


# Rising severity


RISING = "escalate: [{after: 2m, severity: high}, {after: 5m, severity: critical}]"


def test_severity_rises_at_its_times_while_the_condition_holds() -> None:
    site = Site(with_lines(HOT, RISING))
    site.hear(0, PORT, temperature=70)
    assert not site.alarm().ack_required
    site.restart()
    site.at(HOUR)
    assert site.said == [("raised", 0), ("escalated", 2 * MINUTE), ("escalated", 5 * MINUTE)]
    alarm = site.alarm()
    assert (alarm.severity, alarm.state, alarm.ack_required) == (
        Severity.CRITICAL, AlarmState.UNACKED, True,
    )  # fmt: skip
    assert [change.alarm.version for change in site.changes] == [1, 2, 3]
    assert alarm.why is not None
    assert alarm.why.rises == (Risen("high", ms(2 * MINUTE)), Risen("critical", ms(5 * MINUTE)))


def test_a_rise_asks_for_an_acknowledgement_anew() -> None:
    site = Site(with_lines(HOT, RISING))
    site.hear(0, PORT, temperature=70)
    site.ack(10)
    site.at(3 * MINUTE)
    assert site.alarm().state is AlarmState.UNACKED
    assert site.alarm().acked_by is None


def test_what_has_ended_rises_no_more_and_severity_never_falls_while_it_is_on_the_board() -> None:
    site = Site(with_lines(HOT, RISING))
    site.hear(0, PORT, temperature=70)
    site.hear(3 * MINUTE, PORT, temperature=40)
    site.at(HOUR)
    assert site.alarm().state is AlarmState.RTN_UNACKED
    site.hear(HOUR, PORT, temperature=70)
    assert (site.alarm().severity, site.alarm().occurrences) == (Severity.HIGH, 2)
    site.at(2 * HOUR)
    assert site.said == [
        ("raised", 0), ("escalated", 2 * MINUTE), ("cleared", 3 * MINUTE),
        ("reraised", HOUR), ("escalated", HOUR + 5 * MINUTE),
    ]  # fmt: skip


def test_another_press_does_not_put_the_rise_off() -> None:
    site = Site(with_lines(PRESS, RISING))
    for second in (0, 60, 110):
        site.hear(second, BUTTON, action="emergency")
    site.at(HOUR)
    assert ("escalated", 2 * MINUTE) in site.said
    assert ("escalated", 5 * MINUTE) in site.said


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (90, [("raised", 0), ("cleared", HOUR + 1)]),
        (150, [("raised", 0), ("escalated", 2 * MINUTE), ("cleared", HOUR + 1)]),
        (400, [("raised", 0), ("escalated", 2 * MINUTE), ("escalated", 5 * MINUTE), ("cleared", HOUR + 1)]),
        (None, [("raised", 0), ("escalated", 2 * MINUTE), ("escalated", 5 * MINUTE), ("cleared", HOUR + 1)]),
    ],
)
def test_a_rise_in_a_stop_is_judged_by_the_devices_times(
    told: float | None, said: list[tuple[str, float]]
) -> None:
    site = Site(with_lines(HOT, RISING))
    site.hear(0, PORT, told=-1, temperature=70)
    site.stop(20)
    site.back(HOUR)
    site.hear(HOUR + 1, PORT, told=told, temperature=40)
    site.tell(CatchingUp(on=False, at=ms(HOUR + 2)))
    assert site.said == said


def test_a_rise_keeps_its_remaining_time_when_the_clock_is_set() -> None:
    site = Site(with_lines(HOT, RISING, "clear_for: 1m"))
    site.hear(0, PORT, temperature=70)
    site.tell(ClockStepped(by_ms=10 * HOUR * 1000, at=ms(MINUTE)))
    site.at(10 * HOUR + 2 * MINUTE - 1)
    assert site.said == [("raised", 0)]
    site.at(10 * HOUR + 2 * MINUTE)
    assert site.said == [("raised", 0), ("escalated", 10 * HOUR + 2 * MINUTE)]


# Hours


NIGHT = 'active: {hours: "22:00-06:00"}'
SHANGHAI = Calendar(ZoneInfo("Asia/Shanghai"))  # T0 is 20:00 there


def test_a_condition_that_holds_when_the_hours_begin_is_raised_then() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=70)
    site.restart()
    site.at(5 * HOUR)
    assert site.said == [("raised", 2 * HOUR)]
    why = site.alarm().why
    assert why is not None
    assert (why.active, why.waited_ms) == ("22:00-06:00", 2 * HOUR * 1000)


def test_a_delay_counts_outside_the_hours_too() -> None:
    site = Site(with_lines(HOT, NIGHT, "for: 10m"), SHANGHAI)
    site.hear(2 * HOUR - 5 * MINUTE, PORT, temperature=70)
    site.at(5 * HOUR)
    assert site.said == [("raised", 2 * HOUR + 5 * MINUTE)]


def test_what_is_over_before_the_hours_begin_is_nothing() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=70)
    site.hear(HOUR, PORT, temperature=40)
    site.at(5 * HOUR)
    assert site.said == []


def test_what_stands_when_the_hours_end_stands_until_it_is_over_and_is_over_at_any_hour() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(3 * HOUR, PORT, temperature=70)
    site.at(11 * HOUR)
    assert site.said == [("raised", 3 * HOUR)]
    site.hear(11 * HOUR, PORT, temperature=40)
    site.hear(12 * HOUR, PORT, temperature=70)
    site.at(20 * HOUR)
    assert site.said == [("raised", 3 * HOUR), ("cleared", 11 * HOUR)]


def test_an_event_outside_the_hours_is_nothing() -> None:
    site = Site(with_lines(PRESS, NIGHT), SHANGHAI)
    site.hear(0, BUTTON, action="emergency")
    site.hear(3 * HOUR, BUTTON, action="emergency")
    site.hear(11 * HOUR, BUTTON, action="emergency")
    assert site.said == [("raised", 3 * HOUR)]


def test_a_silence_outside_the_hours_is_told_when_they_begin() -> None:
    silent = HOT.replace("when: temperature >= 60", "silent_for: 10m").replace(
        "    clear: temperature < 50\n", ""
    )
    site = Site(with_lines(silent, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=20)
    site.at(5 * HOUR)
    assert site.said == [("raised", 2 * HOUR)]


def test_hours_begin_when_the_clock_shows_so_also_when_it_is_set() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=70)
    site.tell(ClockStepped(by_ms=90 * MINUTE * 1000, at=ms(MINUTE)))  # it is 21:31
    site.at(91 * MINUTE + 28 * MINUTE)
    assert site.said == []
    site.at(3 * HOUR)
    assert site.said == [("raised", 2 * HOUR)]


def test_while_the_time_is_not_known_there_are_no_hours() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=70)
    site.tell(ClockUntrusted(ms(60)))
    site.at(61)
    assert site.said == [("raised", 60)]


def test_what_ended_in_a_stop_before_the_hours_began_is_not_raised() -> None:
    site = Site(with_lines(HOT, NIGHT), SHANGHAI)
    site.hear(0, PORT, temperature=70)
    site.stop(HOUR)
    site.back(3 * HOUR)
    site.hear(3 * HOUR + 1, PORT, told=90 * MINUTE, temperature=40)
    site.tell(CatchingUp(on=False, at=ms(3 * HOUR + 2)))
    assert site.said == []


def test_a_rule_with_hours_is_another_rule_under_another_clock() -> None:
    documents = [("rules.yaml", parse_yaml(with_lines(HOT, NIGHT), ""))]
    here, there = parse(documents, calendar=SHANGHAI), parse(documents)
    assert here.hash != there.hash
    assert here.rules[0].version != there.rules[0].version
    holidays = Calendar(SHANGHAI.zone, frozenset({date(2026, 10, 1)}))
    assert parse(documents, calendar=holidays).hash != here.hash
    plain = [("rules.yaml", parse_yaml(with_lines(HOT), ""))]
    assert parse(plain, calendar=SHANGHAI).hash == parse(plain).hash


@pytest.mark.parametrize(("starts_at", "raised"), [("23:30", True), ("12:00", False)])
def test_the_hours_of_rules_in_a_story_are_on_the_clock_of_the_story(starts_at: str, raised: bool) -> None:
    story = f"""
name: night
starts_at: "{starts_at}"
timezone: America/New_York
rate: 1
duration: 30s
devices: [{{kind: charger, id: p1, building: shed-1}}]
"""
    always = with_lines(HOT.replace("temperature >= 60", "temperature > -40"), NIGHT)
    rules = parse([("rules.yaml", parse_yaml(always, ""))], calendar=SHANGHAI)
    played = rehearse(parse_scenario(story, "night"), rules)
    assert bool([event for event in played.events if isinstance(event, Change)]) is raised


# Beside what keeps alarms quiet


SHED = (
    with_lines(HOT, "suppressed_by: [tamper]", RISING)
    + f"""
  - id: tamper
    kind: charger
    when: leakage > 5
    severity: high
    {TEXT}
"""
)


def test_what_is_suppressed_rises_quietly_until_it_is_critical() -> None:
    site = Site(SHED)
    site.hear(0, PORT, leakage=9)
    site.hear(1, PORT, temperature=70)
    site.at(3 * MINUTE)
    hot = site.state.alarms["hot:c1/charger/p1"]
    assert (hot.severity, hot.state, hot.ack_required) == (Severity.HIGH, AlarmState.SUPPRESSED, False)
    site.at(6 * MINUTE)
    hot = site.state.alarms["hot:c1/charger/p1"]
    assert (hot.severity, hot.state, hot.ack_required) == (Severity.CRITICAL, AlarmState.UNACKED, True)


def test_what_comes_out_must_be_acknowledged_as_its_severity_is_by_then() -> None:
    site = Site(SHED)
    site.hear(0, PORT, leakage=9)
    site.hear(1, PORT, temperature=70)
    site.hear(3 * MINUTE, PORT, leakage=0)
    hot = site.state.alarms["hot:c1/charger/p1"]
    assert (hot.severity, hot.state, hot.ack_required) == (Severity.HIGH, AlarmState.UNACKED, True)
    assert hot.why is not None
    assert [(each.what, each.by, each.at) for each in hot.why.influences] == [
        ("suppressed", "tamper:c1/charger/p1", ms(1)), ("released", "suppressed", ms(3 * MINUTE)),
    ]  # fmt: skip


# Late


def test_a_late_alarm_says_so_in_its_text_with_the_time_when_it_was_so() -> None:
    site = Site(with_lines(PRESS, "safety: true"), SHANGHAI)
    site.stop(0)
    site.back(HOUR)
    site.hear(HOUR + 1, BUTTON, told=12 * MINUTE, action="emergency")
    assert site.alarm().late
    assert site.alarm().text == {"en": "it (late: so at 20:12)", "zh": "它（迟报：发生于 20:12）"}


def test_a_late_alarm_of_another_day_names_the_day_and_one_of_unknown_time_none() -> None:
    site = Site(with_lines(HOT, "for: 1m"), SHANGHAI)
    site.stop(0)
    site.back(5 * HOUR)
    now = ms(5 * HOUR + 1)
    doubted = Reading(Channel.TELEMETRY, PORT, {"temperature": 70}, now, now, Flag.CLOCK_DOUBTED, None, 1)
    site.tell(doubted)
    site.hear(5 * HOUR + 2, Address("c1/charger/p2"), told=3 * HOUR, temperature=70)
    site.tell(CatchingUp(on=False, at=ms(5 * HOUR + 3)))
    texts = {change.alarm.device: change.alarm.text["en"] for change in site.changes}
    assert texts == {"p1": "it (late)", "p2": "it (late: so at 2026-11-22 23:01)"}


# Why


def test_an_alarm_says_what_was_seen_and_which_limits_were_in_force() -> None:
    rule = HOT.replace("temperature >= 60", "temperature >= 60 and power > limit")
    site = Site(with_lines(rule, "let: {limit: current * 2}", "for: 10s"))
    site.hear(0, PORT, current=2)
    site.hear(5, PORT, told=4, temperature=70, power=100)
    site.at(HOUR)
    why = site.alarm().why
    assert why is not None
    assert why.version == site.engine.rules.rules[0].version
    assert (why.when, why.clear, why.for_ms) == (
        "temperature >= 60 and power > limit", "temperature < 50", 10_000,
    )  # fmt: skip
    assert why.let == {"limit": "current * 2"}
    assert {sample.name: (sample.value, sample.at) for sample in why.samples} == {
        "limit": (4, ms(4)), "current": (2, ms(0)), "power": (100, ms(4)), "temperature": (70, ms(4)),
    }  # fmt: skip
    assert (why.since, why.so_at) == (ms(4), ms(14))


def test_what_tells_of_a_persons_day_is_not_among_the_reasons() -> None:
    worn = PRESS.replace("action == 'emergency'", "worn == false and activity < 3")
    site = Site(with_lines(worn))
    site.hear(0, BUTTON, worn=False, activity=0)
    why = site.alarm().why
    assert why is not None
    assert [(sample.name, sample.value, sample.private) for sample in why.samples] == [
        ("activity", None, True), ("worn", None, True),
    ]  # fmt: skip


def test_the_reasons_of_an_alarm_stay_small() -> None:
    parts = [f"(current > {number} or session == 'charge-{number}')" for number in range(20)]
    site = Site(with_lines(HOT.replace("temperature >= 60", " and ".join(parts))))
    site.hear(0, PORT, current=2**80, session="s" * 5_000)
    assert len(msgspec.msgpack.encode(site.alarm().why)) < 8_000


# What is refused


@pytest.mark.parametrize(
    ("rule", "line", "key", "reason"),
    [
        (HOT, "clear_for: soon", "clear_for", "must be a duration"),
        (HOT, "clear_for: 10ms", "clear_for", "must be from 1s"),
        (PRESS, "clear_for: 1m", "clear_for", "an event has no end of its own"),
        (EBIKE, "clear_for: 1m", "clear_for", "an event has no duration"),
        (HOT, "clear_after: 1m", "clear_after", "only a rule whose `when` looks at an event"),
        (
            PRESS.replace("medium", "critical"),
            "clear_after: 1m",
            "clear_after",
            "critical never ends by itself",
        ),
        (HOT.replace("medium", "critical"), "cooldown: 1m", "cooldown", "critical is never withheld"),
        (HOT, "cooldown: 1m\n    escalate: {after: 1m, severity: critical}", "cooldown", "is or becomes"),
        (HOT, "cooldown: 1m\n    safety: true", "cooldown", "nothing may withhold"),
        (HOT, "active: {days: sun}\n    safety: true", "active", "nothing may withhold"),
        (HOT, "suppressed_by: [cold]\n    safety: true", "suppressed_by", "is always told"),
        (HOT, "escalate: {after: 1m, severity: medium}", "escalate.severity", "must be worse than medium"),
        (HOT, "escalate: {after: 1m, severity: low}", "escalate.severity", "must be worse than medium"),
        (HOT, "escalate: {severity: high}", "escalate.after", "is missing"),
        (
            HOT,
            "escalate: [{after: 2m, severity: high}, {after: 1m, severity: critical}]",
            "escalate[1].after",
            "must be longer than the step before",
        ),
        (HOT, "active: {}", "active", "needs `days`"),
        (HOT, "active: {days: [mon, tues]}", "active.days", "must be of mon"),
        (HOT, "active: {hours: 8-18}", "active.hours", "must be such as 08:00-18:00"),
        (HOT, "active: {holidays: also}", "active.holidays", "must be one of except, only"),
        (HOT, "active: {hour: 8}", "active.hour", "unknown key"),
    ],
)
def test_what_cannot_be_meant_is_refused(rule: str, line: str, key: str, reason: str) -> None:
    found = faults(with_lines(rule, line))
    assert [fault.path for fault in found] == [f"rules[0] ({rule.split()[2]}).{key}"], found
    assert reason in found[0].reason


# Whatever happens


WHOLE = "rules:" + "".join(
    rule.replace("id: ", f"id: {name}-").rstrip("\n") + "".join(f"\n    {line}" for line in lines) + "\n"
    for name, rule, lines in (
        ("a", HOT, ["clear_for: 40s", "cooldown: 2m", "escalate: {after: 30s, severity: high}"]),
        ("b", HOT, ["for: 20s", "latch: true", RISING, "clear_for: 10s"]),
        ("c", HOT, ['active: {hours: ["20:01-20:03", "20:05-20:09"]}', "cooldown: 30s", "for: 10s"]),
        ("d", PRESS, ["clear_after: 1m", "cooldown: 30s", "escalate: {after: 50s, severity: high}"]),
        ("e", EBIKE, ["clear_after: 1m", "for: 5s", "escalate: {after: 20s, severity: critical}"]),
    )
).replace("severity: critical}\n", "severity: critical}\n", 1)
WHOLE = WHOLE.replace("    clear_after: 1m\n    for: 5s", "    for: 5s")  # critical never ends by itself

ACTS = st.one_of(
    st.tuples(st.just("temperature"), st.sampled_from([40, 55, 70])),
    st.tuples(st.just("press"), st.just(0)),
    st.tuples(st.just("track"), st.sampled_from(["new", "update", "end"])),
    st.tuples(st.just("ack"), st.integers(0, 3)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("gateway"), st.sampled_from(["stops", "is back", "has caught up"])),
    st.tuples(st.just("nothing"), st.just(0)),
)
STORY = st.lists(st.tuples(st.integers(0, 45), ACTS, st.booleans()), max_size=40)

OFF_BOARD: AbstractSet[AlarmState | None] = {None, AlarmState.NORMAL}
LEGAL: dict[Transition, tuple[AbstractSet[AlarmState | None], AbstractSet[AlarmState]]] = {
    Transition.RAISED: (OFF_BOARD, {AlarmState.UNACKED}),
    Transition.RERAISED: (set(AlarmState) - {AlarmState.NORMAL}, {AlarmState.UNACKED}),
    Transition.ESCALATED: ({AlarmState.UNACKED, AlarmState.ACKED}, {AlarmState.UNACKED}),
    Transition.CLEARED: (
        {AlarmState.UNACKED, AlarmState.ACKED},
        {AlarmState.RTN_UNACKED, AlarmState.LATCHED_UNACKED, AlarmState.LATCHED_ACKED, AlarmState.NORMAL},
    ),
    Transition.ACKED: (
        {AlarmState.UNACKED, AlarmState.RTN_UNACKED, AlarmState.LATCHED_UNACKED},
        {AlarmState.ACKED, AlarmState.LATCHED_ACKED, AlarmState.NORMAL},
    ),
    Transition.CLOSED: (set(AlarmState) - {AlarmState.NORMAL}, {AlarmState.NORMAL}),
}


def inputs(
    story: Sequence[tuple[int, tuple[str, str | int], bool]], state: State, number: int
) -> list[Input]:
    now = ms(sum(wait for wait, _, _ in story[: number + 1]))
    match story[number][1]:
        case "temperature", value:
            return [Reading(Channel.TELEMETRY, PORT, {"temperature": value}, now, now)]
        case "press", _:
            return [Reading(Channel.EVENT, BUTTON, {"action": "emergency"}, now, now)]
        case "track", what:
            values: dict[str, Scalar] = {"type": what, "track": "t", "label": "ebike"}
            return [Reading(Channel.EVENT, LIFT, values, now, now)]
        case "gateway", "stops":
            return [Listening(on=False, at=now), CatchingUp(on=True, at=now)]
        case "gateway", "is back":
            return [Listening(on=True, at=now)]
        case "gateway", _:
            return [CatchingUp(on=False, at=now)]
        case ("ack" | "close") as act, index if isinstance(index, int) and len(state.alarms) > index:
            alarm = state.alarms[sorted(state.alarms)[index]]
            return [Acknowledge(alarm.id, "W", "", now) if act == "ack" else Close(alarm.id, "W", "", now)]
    return []


@settings(max_examples=150, deadline=None)
@given(STORY)
def test_every_change_is_legal_and_restarts_change_nothing(
    story: Sequence[tuple[int, tuple[str, str | int], bool]],
) -> None:
    plain, restarted = Site(WHOLE, SHANGHAI), Site(WHOLE, SHANGHAI)
    for number, (_, _, restart) in enumerate(story):
        now = ms(sum(wait for wait, _, _ in story[: number + 1]))
        if restart:
            restarted.restart()
        for given_ in inputs(story, plain.state, number):
            plain.tell(given_)
            restarted.at((now - T0) / 1000)
            restarted.tell(given_)
    for site in (plain, restarted):
        site.tell(CatchingUp(on=False, at=ms(HOUR)))
        site.at(2 * HOUR)
    assert plain.changes == restarted.changes
    before: dict[str, Alarm] = {}
    left: dict[str, int] = {}
    for change in plain.changes:
        alarm, known = change.alarm, before.get(change.alarm.key)
        froms, tos = LEGAL[change.transition]
        assert (known.state if known is not None else None) in froms
        assert alarm.state in tos
        if known is not None and known.state is not AlarmState.NORMAL:
            assert alarm.id == known.id
            assert alarm.version == known.version + 1
            assert alarm.severity.rank <= known.severity.rank
        if change.transition is Transition.RAISED and alarm.rule in ("a-hot", "c-hot"):
            assert change.at >= left.get(alarm.key, 0)
        if alarm.state is AlarmState.NORMAL:
            left[alarm.key] = change.at + {"a-hot": 120_000, "c-hot": 30_000}.get(alarm.rule, 0)
        if alarm.rule == "c-hot" and change.transition is Transition.RAISED:
            assert any(
                begin * 60_000 <= change.at - T0 < end * 60_000
                for begin, end in ((1, 3), (5, 9), (1441, 1443))
            )
        before[alarm.key] = alarm
