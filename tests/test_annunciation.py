"""What people are told by itself: causes, common causes, floods, chattering; and what may never be quiet."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from edge.shell.explanations import explain
from rules.alarms import Alarm, AlarmState
from rules.decisions import Acknowledge, CatchingUp, ClockStepped, Close, Listening
from rules.files import parse
from tests.around_world import REGISTRY, T0, Community, engine, with_ports

SILENT = """
rules:
  - id: silent
    kind: charger
    silent_for: 10m
    severity: medium
    text: {en: silent, zh: 失联}
    fold:
      same: [group, building]
      least: 3
      share: 0.6
      within: 2m
      text: {en: "{count} of {heard} ports of {group} {place} are silent", zh: "{heard}个中{count}个失联"}
"""

SHED = REGISTRY + with_ports(10)


def ports(count: int, group: str = "shed-1") -> list[str]:
    return [f"{group}-p{number:03}" for number in range(1, count + 1)]


def shed_goes_dark(world: Community, count: int, *, alive: int = 0) -> None:
    """All speak at 0 s within a minute, then ``count`` of them say nothing any more."""
    for number, name in enumerate(ports(10)):
        world.hear(number, "charger", name, voltage=230)
    for minute in range(1, 16):
        for name in ports(10)[count : count + alive]:
            world.hear(60 * minute, "charger", name, voltage=230)
    world.at(900)


def states(world: Community, rule: str) -> dict[str, AlarmState]:
    return {alarm.device: alarm.state for alarm in world.state.alarms.values() if alarm.rule == rule}


# Suppression by cause

CUT = """
rules:
  - id: dark
    kind: smoke
    when: fault
    severity: low
    text: {en: dark, zh: 暗}
  - id: hot
    kind: charger
    when: temperature >= 65
    severity: high
    suppressed_by: [cut, {rule: dark, same: group}]
    text: {en: hot, zh: 热}
  - id: cut
    kind: charger
    when: temperature >= 80
    severity: critical
    text: {en: cut, zh: 断}
"""


def test_an_alarm_that_another_explains_is_suppressed_until_that_goes() -> None:
    world = Community(CUT, SHED)
    world.hear(0, "charger", "shed-1-p001", temperature=70)
    assert world.alarm("hot").state is AlarmState.UNACKED
    world.hear(1, "charger", "shed-1-p001", temperature=85)
    hot = world.alarm("hot")
    assert (hot.state, hot.suppressed_by, hot.annunciated) == (
        AlarmState.SUPPRESSED,
        "cut:c1/charger/shed-1-p001",
        False,
    )
    world.hear(2, "charger", "shed-1-p001", temperature=70)
    assert world.alarm("hot").state is AlarmState.UNACKED
    assert world.said_of("hot") == [
        ("raised", "shed-1-p001", 0),
        ("changed", "shed-1-p001", 1),
        ("changed", "shed-1-p001", 2),
    ]


def test_a_cause_may_stand_on_another_device_of_the_same_place() -> None:
    world = Community(CUT, SHED)
    world.hear(0, "smoke", "shed", fault=True)
    world.hear(1, "charger", "shed-1-p001", temperature=70)
    world.hear(2, "charger", "elsewhere", temperature=70)
    assert states(world, "hot") == {"shed-1-p001": AlarmState.SUPPRESSED, "elsewhere": AlarmState.UNACKED}
    world.hear(3, "charger", "shed-1-p001", temperature=85)
    world.hear(4, "smoke", "shed", fault=False)
    assert world.alarm("hot", "shed-1-p001").suppressed_by == "cut:c1/charger/shed-1-p001"


def test_what_nobody_was_told_of_leaves_without_an_acknowledgement() -> None:
    world = Community(CUT, SHED)
    world.hear(0, "charger", "shed-1-p001", temperature=85)
    world.hear(1, "charger", "shed-1-p001", temperature=20)
    assert [alarm.rule for alarm in world.state.alarms.values()] == ["cut"]
    told = Community(CUT, SHED)
    told.hear(0, "smoke", "shed", fault=True)
    told.hear(1, "charger", "shed-1-p001", temperature=70)
    told.hear(2, "smoke", "shed", fault=False)
    told.hear(3, "charger", "shed-1-p001", temperature=20)
    assert told.alarm("hot").state is AlarmState.RTN_UNACKED


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[nothing]", "no rule of this id"),
        ("[dark]", "is about smoke, never about the same device; say `same:`"),
        ("[hot]", "in a circle"),
        ("[{rule: hot, same: group}]", "in a circle"),
        ("[{rule: cut, same: street}]", "must be one of"),
        ("cut", "must be a list"),
    ],
)
def test_a_cause_that_cannot_be_one_is_refused(line: str, reason: str) -> None:
    text = CUT.replace("[cut, {rule: dark, same: group}]", line)
    with pytest.raises(ConfigurationError) as told:
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])
    assert reason in str(told.value)


def test_a_critical_rule_cannot_be_suppressed() -> None:
    text = CUT.replace("severity: critical", "severity: critical\n    suppressed_by: [hot]")
    with pytest.raises(ConfigurationError, match="critical is never suppressed"):
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])


# Common causes


def test_when_a_whole_shed_falls_silent_one_alarm_names_them_all() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    fold = world.alarm("silent", "building=shed-1")
    assert fold.members == tuple(f"silent:c1/charger/{name}" for name in ports(10))
    assert (fold.state, fold.kind, fold.device, fold.place) == (
        AlarmState.UNACKED,
        "gateway",
        "gw-1",
        {"building": "shed-1"},
    )
    assert fold.values == {"count": 10, "heard": 10}
    assert fold.text["en"] == "10 of 10 ports of – shed-1 are silent"
    assert set(states(world, "silent").values()) == {AlarmState.UNACKED, AlarmState.SUPPRESSED}
    members = [alarm for alarm in world.state.alarms.values() if alarm.members is None]
    assert {alarm.folded_into for alarm in members} == {fold.id}
    assert all(alarm.state is AlarmState.SUPPRESSED for alarm in members)
    # Of the first two nobody could know yet; everything else was never told by itself.
    alone = [change.alarm for each in world.decisions for change in each.changes if change.alarm.annunciated]
    assert {alarm.device for alarm in alone} == {"shed-1-p001", "shed-1-p002", "gw-1"}


def test_what_is_silent_in_one_building_alone_is_not_the_sites() -> None:
    rule = SILENT.replace("same: [group, building]", "same: [building, site]")
    world = Community(rule, SHED + '  - {id: far, kind: charger, building: "3"}\n')
    for number, name in enumerate(ports(10)):
        world.hear(number, "charger", name, voltage=230)
    world.hear(500, "charger", "far", voltage=230)
    world.at(900)
    assert world.alarm("silent", "building=shed-1").place == {"building": "shed-1"}
    assert {alarm.track for alarm in world.state.alarms.values() if alarm.members} == {"building=shed-1"}


def test_a_few_silent_devices_among_many_that_speak_stand_alone() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 4, alive=6)
    assert states(world, "silent") == dict.fromkeys(ports(4), AlarmState.UNACKED)


def test_those_that_speak_again_leave_and_what_is_left_stands_alone_again() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    fold = world.alarm("silent", "building=shed-1").id
    for number, name in enumerate(ports(7)):
        world.hear(1000 + number, "charger", name, voltage=230)
    world.at(1020)
    assert world.alarm("silent", "building=shed-1").values["count"] == 3
    world.hear(1030, "charger", ports(10)[7], voltage=230)
    assert states(world, "silent") == dict.fromkeys(ports(10)[8:], AlarmState.UNACKED)
    last = [change.alarm for change in world.decisions[-1].changes if change.alarm.id == fold]
    assert [(alarm.state, alarm.members) for alarm in last] == [(AlarmState.NORMAL, ())]


def test_another_device_joins_the_fold_that_stands() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 9, alive=1)
    decision = world.at(15 * 60 + 600)
    [late] = [change.alarm for change in decision.changes if change.alarm.device == ports(10)[9]]
    assert late.state is AlarmState.SUPPRESSED
    world.at(15 * 60 + 606)
    assert world.alarm("silent", "building=shed-1").values["count"] == 10


def test_members_are_told_together_and_not_one_by_one() -> None:
    world = Community(SILENT, REGISTRY + with_ports(400))
    for name in ports(400):
        world.hear(0, "charger", name, voltage=230)
    world.at(3600)
    changes = [
        change for each in world.decisions for change in each.changes if change.alarm.members is not None
    ]
    assert len(changes) == 2
    assert changes[-1].alarm.values["count"] == 400


def test_silence_after_a_long_stop_begins_anew_and_is_no_storm() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    before = len(world.said)
    world.at(1_000, Listening(on=False, at=T0 + 1_000_000))
    world.restart()
    world.at(94_600, CatchingUp(on=True, at=T0 + 94_600_000))
    world.at(94_601, Listening(on=True, at=T0 + 94_601_000))
    world.at(94_610, CatchingUp(on=False, at=T0 + 94_610_000))
    world.at(96_000)
    assert world.said[before:] == []
    assert world.alarm("silent", "building=shed-1").active


def test_a_closed_member_leaves_and_a_fold_cannot_be_closed_while_it_stands() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    fold = world.alarm("silent", "building=shed-1")
    world.at(1000, Close(fold.id, "Li", "", T0 + 1_000_000))
    assert world.alarm("silent", "building=shed-1").active
    member = world.alarm("silent", ports(1)[0])
    world.at(1001, Close(member.id, "Li", "taken away", T0 + 1_001_000))
    world.at(1010)
    assert world.alarm("silent", "building=shed-1").values["count"] == 9


def test_under_changed_rules_a_fold_that_no_rule_makes_ends_and_its_members_come_out() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    changed = engine(SILENT[: SILENT.index("    fold:")], SHED)
    changed.adopt(world.state, list(world.state.alarms.values()))
    changed.rejudge(world.state, T0 + 900_000)
    assert states(world, "silent") == dict.fromkeys(ports(10), AlarmState.UNACKED)


def test_the_fold_of_a_drill_is_a_drill() -> None:
    world = Community(SILENT.replace("severity: medium", "severity: medium\n    drill: true"), SHED)
    shed_goes_dark(world, 10)
    assert world.alarm("silent", "building=shed-1").drill


def test_a_fold_that_comes_again_under_a_changed_rule_is_the_new_rules() -> None:
    rule = SILENT.replace("severity: medium", "severity: high")
    world = Community(rule, SHED)
    shed_goes_dark(world, 10)
    before = world.engine.rules
    world.engine = engine(rule.replace("en: silent", "en: quiet").replace("high", "critical"), SHED)
    world.engine.succeed(world.state, before, T0 + 900_000)
    assert world.alarm("silent", "building=shed-1").superseded == "changed"
    for name in ports(10):
        world.hear(901, "charger", name, voltage=230)
        world.at(902, Close(world.alarm("silent", name).id, "Li", "", T0 + 902_000))
    assert world.alarm("silent", "building=shed-1").state is AlarmState.RTN_UNACKED
    world.at(1_600)
    fold = world.alarm("silent", "building=shed-1")
    assert (fold.occurrences, fold.superseded, fold.closable, fold.severity) == (2, None, False, "critical")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("same: [group, building]", "same: [street]", "must be of"),
        ("least: 3", "least: 1", "must be a whole number from 2"),
        ("share: 0.6", "share: 60", "must be a number from 0.01 to 1"),
        ("{count} of", "{smoke} of", "no such name"),
        ("within: 2m", "window: 2m", "unknown key"),
    ],
)
def test_a_fold_that_cannot_be_one_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        parse([("rules.yaml", parse_yaml(SILENT.replace(old, new), "rules.yaml"))])
    assert reason in str(told.value)


# Floods

FLOOD = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    severity: high
    text: {en: hot, zh: 热}
  - id: cut
    kind: charger
    when: temperature >= 80
    severity: critical
    text: {en: cut, zh: 断}
  - id: trial
    kind: charger
    when: temperature >= 50 and temperature < 60
    severity: info
    drill: true
    text: {en: t, zh: 试}
  - id: flood
    kind: gateway
    flood: {more_than: 10, within: 10m, until_fewer_than: 5}
    severity: high
    text: {en: "{count} alarms: {critical} critical, {high} high", zh: "{count}条告警"}
"""

MANY = REGISTRY + with_ports(60)


def flooded(count: int = 15, temperature: float = 70) -> Community:
    world = Community(FLOOD, MANY)
    for number, name in enumerate(ports(count)):
        world.hear(number, "charger", name, temperature=temperature)
    world.at(count + 10)
    return world


def test_ten_alarms_in_ten_minutes_are_ten_and_the_eleventh_begins_a_flood() -> None:
    assert set(states(flooded(10), "hot").values()) == {AlarmState.UNACKED}
    world = flooded(15)
    flood = world.alarm("flood")
    assert flood.members == tuple(f"hot:c1/charger/{name}" for name in ports(15)[10:])
    assert flood.text["en"] == "5 alarms: 0 critical, 5 high"
    assert [state.value for state in states(world, "hot").values()] == ["unacked"] * 10 + ["suppressed"] * 5


def test_a_critical_alarm_in_a_flood_is_told_by_itself_and_listed_too() -> None:
    world = flooded(15)
    decision = world.hear(30, "charger", ports(20)[19], temperature=85)
    raised = {change.alarm.rule: change.alarm for change in decision.changes}
    assert (raised["cut"].state, raised["cut"].annunciated) == (AlarmState.UNACKED, True)
    assert raised["hot"].state is AlarmState.SUPPRESSED
    world.at(40)
    flood = world.alarm("flood")
    assert (flood.values["critical"], flood.values["high"]) == (1, 6)
    assert raised["cut"].key in (flood.members or ())


def test_a_flood_ends_with_fewer_than_five_in_ten_minutes_and_what_stands_comes_out() -> None:
    world = flooded(15)
    world.hear(300, "charger", ports(15)[14], temperature=20)
    world.at(609.9)
    assert world.alarm("flood").active
    decision = world.at(610.1)
    assert [change.at for change in decision.changes] == [T0 + 610_000] * 5
    assert set(states(world, "hot").values()) == {AlarmState.UNACKED}
    assert world.alarm("flood").state is AlarmState.RTN_UNACKED


def test_drills_and_what_is_folded_for_a_common_cause_make_no_flood() -> None:
    assert "flood" not in {alarm.rule for alarm in flooded(40, temperature=55).state.alarms.values()}
    world = Community(SILENT + FLOOD.split("rules:")[1], MANY)
    for name in ports(60):
        world.hear(0, "charger", name, voltage=230)
    world.at(3_600)
    assert {alarm.rule for alarm in world.state.alarms.values()} == {"silent"}


def test_a_flood_that_ends_in_a_stop_is_over_afterwards() -> None:
    world = flooded(15)
    world.restart()
    world.at(94_600)
    assert set(states(world, "hot").values()) == {AlarmState.UNACKED}
    assert not world.alarm("flood").active


def test_there_is_one_rule_for_floods_and_it_is_the_gateway_s() -> None:
    again = FLOOD + FLOOD.split("rules:")[1][FLOOD.split("rules:")[1].index("  - id: flood") :].replace(
        "id: flood", "id: flood-2"
    )
    with pytest.raises(ConfigurationError, match="there is one already, flood"):
        parse([("rules.yaml", parse_yaml(again, "rules.yaml"))])
    with pytest.raises(ConfigurationError, match="its kind must be gateway"):
        parse([("rules.yaml", parse_yaml(FLOOD.replace("kind: gateway", "kind: smoke"), "rules.yaml"))])


def test_a_rule_for_safety_is_always_told_by_itself() -> None:
    safe = FLOOD.replace(
        "severity: high\n    text: {en: hot", "severity: high\n    safety: true\n    text: {en: hot"
    )
    world = Community(safe, MANY)
    for number, name in enumerate(ports(30)):
        world.hear(number, "charger", name, temperature=70)
    assert set(states(world, "hot").values()) == {AlarmState.UNACKED}
    with pytest.raises(ConfigurationError, match="a rule with `safety` is always told"):
        parse(
            [
                (
                    "rules.yaml",
                    parse_yaml(SILENT.replace("    fold:", "    safety: true\n    fold:"), "rules.yaml"),
                )
            ]
        )


def test_an_event_has_no_fold() -> None:
    text = FLUTTER.replace("severity: critical", "severity: high") + SILENT[SILENT.index("    fold:") :]
    with pytest.raises(ConfigurationError, match="not for events"):
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])


# Chattering

FLUTTER = """
rules:
  - id: low
    kind: charger
    when: temperature >= 60
    severity: low
    text: {en: low, zh: 低}
  - id: high
    kind: charger
    when: temperature >= 60
    severity: high
    text: {en: high, zh: 高}
  - id: press
    kind: button
    when: action == 'emergency'
    severity: critical
    text: {en: help, zh: 求助}
"""


def test_an_alarm_that_comes_three_times_in_a_minute_chatters_and_a_low_one_is_shelved() -> None:
    world = Community(FLUTTER, SHED)
    for second in range(0, 50, 10):
        world.hear(second, "charger", "shed-1-p001", temperature=61 if second % 20 == 0 else 50)
    low, high = world.alarm("low"), world.alarm("high")
    assert (low.state, low.chattering, low.shelved_until) == (AlarmState.SHELVED, True, T0 + 940_000)
    assert (high.state, high.chattering, high.shelved_until) == (AlarmState.UNACKED, True, None)
    world.hear(50, "charger", "shed-1-p001", temperature=50)
    world.hear(500, "charger", "shed-1-p001", temperature=61)
    assert world.alarm("low").state is AlarmState.SHELVED
    world.restart()
    world.at(941)
    assert world.alarm("low").state is AlarmState.UNACKED
    assert world.said_of("low")[-1] == ("changed", "shed-1-p001", 940)


def test_a_slow_return_is_no_chatter() -> None:
    world = Community(FLUTTER, SHED)
    for second in range(0, 400, 35):
        world.hear(second, "charger", "shed-1-p001", temperature=61 if second % 70 == 0 else 50)
    assert not any(change.alarm.chattering for each in world.decisions for change in each.changes)


def test_a_person_who_presses_again_and_again_does_not_chatter() -> None:
    world = Community(FLUTTER, SHED)
    for second in range(6):
        world.event(second, "button", "bell", action="emergency")
    press = world.alarm("press")
    assert (press.occurrences, press.chattering, press.state) == (6, False, AlarmState.UNACKED)


def test_a_set_clock_does_not_end_a_shelf_early() -> None:
    world = Community(FLUTTER, SHED)
    for second in range(0, 50, 10):
        world.hear(second, "charger", "shed-1-p001", temperature=61 if second % 20 == 0 else 50)
    world.at(100, ClockStepped(by_ms=86_400_000, at=T0 + 100_000))
    world.at(86_400 + 939)
    assert world.alarm("low").state is AlarmState.SHELVED
    world.at(86_400 + 941)
    assert world.alarm("low").state is AlarmState.UNACKED


def test_the_wire_says_why_an_alarm_is_quiet() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    fold = world.alarm("silent", "building=shed-1")
    wire = msgspec.json.decode(world.alarm("silent", "shed-1-p001").wire())
    assert (wire["state"], wire["annunciated"], wire["folded_into"]) == ("suppressed", False, fold.id)
    assert msgspec.json.decode(fold.wire())["members"] == list(fold.members or ())


def test_a_fold_explains_itself_by_its_members_and_a_member_by_its_fold() -> None:
    world = Community(SILENT, SHED)
    shed_goes_dark(world, 10)
    fold, member = world.alarm("silent", "building=shed-1"), world.alarm("silent", "shed-1-p001")
    told = list(explain(fold, "en", "Asia/Shanghai"))
    assert told[2:4] == [
        "It tells of 10 alarms together, each with an explanation of its own:",
        "  silent:c1/charger/shed-1-p001",
    ]
    assert fold.id in "\n".join(explain(member, "zh", "Asia/Shanghai"))


# Properties

EVERYTHING = (
    SILENT
    + CUT.split("rules:")[1]
    + FLUTTER.split("rules:")[1]
    + FLOOD.split("rules:")[1][FLOOD.split("rules:")[1].index("  - id: flood") :].replace(
        "more_than: 10, within: 10m, until_fewer_than: 5", "more_than: 3, within: 2m, until_fewer_than: 2"
    )
)
PLACES = REGISTRY + with_ports(5)
actors = [*ports(5), "shed", "bell", "restart", "ack", "close", "deaf", "back"]
stories = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 5.0, 20.0, 61.0, 300.0, 700.0]),
        st.sampled_from(actors),
        st.sampled_from([20, 61, 70, 85]),
    ),
    max_size=40,
)


def play(story: list[tuple[float, str, int]], *, restarts: bool, ticks: bool = False) -> Community:
    world = Community(EVERYTHING, PLACES)
    second = 0.0
    for gap, who, value in story:
        for part in range(1, 7 if ticks else 1):
            world.at(second + gap * part / 7)
        second += gap
        now = T0 + round(second * 1000)
        world.at(second)  # what stands by then is on the board that somebody chooses from
        board = sorted(world.state.keys)
        chosen = board[value % len(board)] if board else "none"
        match who:
            case "restart":
                if restarts:
                    world.restart()
            case "ack":
                world.at(second, Acknowledge(chosen, "Li", "", now))
            case "close":
                world.at(second, Close(chosen, "Li", "", now))
            case "deaf" | "back":
                world.at(second, Listening(on=who == "back", at=now))
            case "shed":
                world.hear(second, "smoke", who, fault=value > 60)
            case "bell":
                world.event(second, "button", who, action="emergency")
            case _:
                world.hear(second, "charger", who, temperature=value)
    world.at(second + 4_000)
    return world


@settings(max_examples=120, deadline=None)
@given(stories)
def test_restarts_change_nothing(story: list[tuple[float, str, int]]) -> None:
    through, again = play(story, restarts=False), play(story, restarts=True)
    assert again.said == through.said
    assert again.state.alarms == through.state.alarms
    assert again.state.keys == through.state.keys


@settings(max_examples=120, deadline=None)
@given(stories)
def test_whatever_happens_nothing_is_quiet_without_a_reason_that_stands(
    story: list[tuple[float, str, int]],
) -> None:
    world = play(story, restarts=True)
    alarms = world.state.alarms
    first: dict[str, Alarm] = {}
    for decision in world.decisions:
        for change in decision.changes:
            first.setdefault(change.alarm.id, change.alarm)
    for alarm in first.values():
        assert alarm.annunciated or alarm.severity != "critical"
    for alarm in alarms.values():
        if alarm.suppressed_by is not None:
            assert alarms[alarm.suppressed_by].active
        if alarm.folded_into is not None:
            fold = alarms[world.state.keys[alarm.folded_into]]
            assert fold.active
            assert alarm.key in (fold.members or ())
        for member in alarm.members or ():
            assert alarms[member].folded_into == alarm.id


@settings(max_examples=60, deadline=None)
@given(stories)
def test_the_times_of_ticks_change_nothing(story: list[tuple[float, str, int]]) -> None:
    through, ticked = play(story, restarts=False), play(story, restarts=False, ticks=True)
    assert ticked.said == through.said
    assert ticked.state.alarms == through.state.alarms
