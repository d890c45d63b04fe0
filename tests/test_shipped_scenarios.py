"""The shipped stories against the shipped packs, in virtual time; and that such a performance can be trusted."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from rules.definitions import RuleSet
from rules.files import parse
from rules.language.texts import Language
from simulators.named_rules import unknown_rules
from simulators.performance import Performance
from simulators.phrases import why_in
from simulators.rehearsal import rehearse
from simulators.scenario import SHIPPED, find_scenario, load_scenario, parse_scenario
from simulators.telling import Noted
from simulators.verdicts import Change, Ordered

NAMED_BY_THE_ISSUE = {
    "battery-fire",
    "burnt-toast",
    "lift-stroller",
    "lift-ebike-forced",
    "fall-at-night",
    "power-cut-building",
    "press-in-cloud-outage",
    "clock-a-year-off",
    "alarm-storm",
}


@cache
def rules() -> RuleSet:
    packs = sorted(files("rules").joinpath("packs").iterdir(), key=lambda entry: entry.name)
    return parse([(pack.name, parse_yaml(pack.read_text("utf-8"), pack.name)) for pack in packs])


def play(text: str) -> Performance:
    return rehearse(parse_scenario("name: x\n" + text, "story.yaml"), rules())


def changes(played: Performance) -> Sequence[tuple[float, str, str, str]]:
    return [
        (event.at_s, event.change, event.alarm.rule, event.alarm.device)
        for event in played.events
        if isinstance(event, Change)
    ]


def test_there_are_at_least_twenty_and_those_that_the_issue_names() -> None:
    shipped = {path.stem for path in SHIPPED.glob("*.yaml")}
    assert len(shipped) >= 20
    assert shipped >= NAMED_BY_THE_ISSUE


def test_every_rule_that_a_shipped_story_names_is_there() -> None:
    stories = [load_scenario(path) for path in SHIPPED.glob("*.yaml")]
    assert not [fault for story in stories for fault in unknown_rules(story.named_rules, rules())]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_story_comes_out_as_it_says(path: Path) -> None:
    played = rehearse(load_scenario(path), rules())
    assert [(str(case.expectation), case.why) for case in played.cases if not case.passed] == []
    assert [(alarm.rule, alarm.device) for alarm in played.unexpected] == []
    assert played.passed
    assert played.scenario.expect or played.scenario.others_forbidden


@pytest.mark.parametrize("name", ["bad-line", "gateway-away", "press-in-broker-restart"])
def test_the_same_seed_gives_the_same_story_to_the_millisecond(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    first, again = rehearse(scenario, rules()), rehearse(scenario, rules())
    assert first.events == again.events
    assert first.counts == again.counts


STORY = """
seed: {seed}
devices:
  - {{kind: button, id: b1, count: 3, building: "1"}}
  - {{kind: smoke, id: s1, count: 3, building: "1"}}
initial: [{{device: "*", fault: {fault}}}]
timeline:
  - {{at: 10s, device: b2, action: emergency}}
  - {{at: 20s, device: s2, fault: flaming, growth: 10s}}
duration: 8m
"""


@given(
    seed=st.integers(0, 10_000),
    fault=st.sampled_from(
        [
            "duplicate, copies: 3, apart: 0s",
            "duplicate, apart: 0s",
            "delay, by: 5s",
            "clock, by: -300d",
            "clock, by: 9h",
        ]
    ),
)
@settings(max_examples=8, deadline=None)
def test_repeats_delays_and_wrong_clocks_change_no_alarm_but_when_it_comes(seed: int, fault: str) -> None:
    clean = play(STORY.format(seed=seed, fault="none"))
    rough = play(STORY.format(seed=seed, fault=fault))
    wanted = [("raised", "button-emergency", "b2"), ("raised", "smoke-alarm", "s2")]
    for played in (clean, rough):
        raised = [what for _, *what in changes(played) if what[0] in ("raised", "reraised")]
        assert sorted(map(tuple, raised)) == sorted(wanted)


def test_what_arrives_broken_is_rejected_and_what_comes_again_is_known() -> None:
    played = play(
        "devices: [{kind: button, id: b1, count: 2, building: '1'}]\n"
        "initial: [{device: b1, fault: corrupt}, {device: b2, fault: duplicate}]\n"
        "timeline: [{at: 5s, device: '*', action: emergency}]\nduration: 1m\n"
    )
    assert [(rule, device) for _, _, rule, device in changes(played)] == [("button-emergency", "b2")]
    assert played.counts["rejected"] >= 2, "its telemetry and its press"
    assert played.counts["duplicates"] == 1


def test_an_order_does_not_reach_a_device_that_is_offline_and_it_is_said() -> None:
    played = play(
        "devices: [{kind: button, id: b1, building: '1'}]\n"
        "timeline:\n"
        "  - {at: 5s, device: b1, fault: delay, by: 10s}\n"
        "  - {at: 6s, device: b1, action: emergency}\n"
        "  - {at: 10s, device: b1, fault: offline}\n"
        "expect: [{alarm: button-emergency, device: b1, within: 20s}]\n"
        "never: [{order: confirm, result: done}]\n"
    )
    assert played.passed
    assert [event.result for event in played.events if isinstance(event, Ordered)] == [""]


def test_a_device_that_buffers_tells_afterwards_what_it_measured_meanwhile() -> None:
    text = (
        "devices: [{kind: charger, id: p1, building: shed-1%s}]\n"
        "timeline: [{at: 5m, device: p1, fault: offline, for: 9m}]\nduration: 15m\n"
    )
    plain, keeps = play(text % ""), play(text % ", buffers: true")
    assert keeps.counts["received"] >= plain.counts["received"] + 8


def test_a_gateway_that_was_away_knows_afterwards_what_it_knew_before() -> None:
    played = play(
        "devices: [{kind: charger, id: p1, building: shed-1}]\n"
        "timeline:\n"
        "  - {at: 10s, device: p1, set: {temperature: 58}}\n"
        "  - {at: 2m, device: p1, set: {temperature: 68}}\n"
        "  - {at: 2m5s, gateway: restart, for: 10s}\n"
        "expect:\n"
        "  - {alarm: charger-hot, device: p1, after: 2m, not_before: 10s, within: 16s}\n"
        "duration: 3m\n"
    )
    assert played.passed, played.cases
    assert [remark.text[:20] for remark in played.remarks] == ["The gateway's stop i"]


def test_time_of_day_and_zone_are_the_storys_own() -> None:
    text = "devices: [{kind: button, id: b1, building: '1'}]\nstarts_at: '2026-03-29 01:30'\ntimezone: %s\n"
    begins = [
        parse_scenario("name: x\n" + text % zone, "story.yaml").starts_at
        for zone in ("Asia/Shanghai", "Europe/Berlin")
    ]
    assert [begin.isoformat() for begin in begins] == [
        "2026-03-29T01:30:00+08:00",
        "2026-03-29T01:30:00+01:00",
    ]


def test_a_gateway_that_is_stopped_hears_nobody() -> None:
    played = play("""
devices: [{kind: button, id: b1, building: "1"}]
timeline:
  - {at: 5s, device: b1, action: emergency}
  - {at: 1m, gateway: stop}
  - {at: 2m, acknowledge: button-emergency, by: Wang}
  - {at: 3m, gateway: start}
expect:
  - {state: unacked, alarm: button-emergency, device: b1, at: 150s}
  - {state: unacked, alarm: button-emergency, device: b1, at: 5m}
never: [{alarm: button-emergency, change: acked}]
""")
    assert played.passed, [case.why for case in played.cases]
    assert [event.zh for event in played.events if isinstance(event, Noted)] == [
        "网关没有运行，Wang 的操作无效"
    ]


def test_a_gateway_that_starts_finds_what_went_wrong_around_it_meanwhile() -> None:
    played = play("""
devices: [{kind: button, id: b1, building: "1"}]
timeline:
  - {at: 1m, gateway: stop}
  - {at: 2m, cloud: away}
  - {at: 3m, gateway: start}
expect: [{alarm: gateway-cloud-away, after: 3m, not_before: 5m, within: 6m}]
""")
    assert played.passed, [case.why for case in played.cases]


@pytest.mark.parametrize(("by", "orders"), [("", 0), (", by: Sun", 1)])
def test_staff_who_release_a_door_through_the_gateway_are_known_to_it(by: str, orders: int) -> None:
    played = play(f"""
devices: [{{kind: elevator, id: l1, building: "1"}}]
timeline:
  - {{at: 10s, device: l1, passenger: ebike, stay: 3m}}
  - {{at: 30s, device: l1, command: release_door{by}}}
expect: [{{order: release_door, after: 30s, within: 1s, result: done, count: {orders}}}]
""")
    assert played.passed, [case.why for case in played.cases]
    assert any(alarm.outcome == "released" for alarm in played.standing) is bool(orders)


def test_what_a_person_orders_unsafely_is_withheld_in_a_story_too() -> None:
    played = play("""
devices: [{kind: charger, id: p1, building: shed-1}]
timeline:
  - {at: 10s, device: p1, fault: leakage, current: 60}
  - {at: 1m, device: p1, command: restore_power, by: Li, comment: it was nothing}
expect: [{order: cut_power, device: p1, within: 10s, result: done}]
never: [restore_power]
""")
    assert played.passed, [case.why for case in played.cases]


def test_who_waits_for_an_order_that_a_person_gave_at_the_panel_is_told_so() -> None:
    played = play("""
devices: [{kind: elevator, id: l1, building: "1"}]
timeline: [{at: 10s, device: l1, command: release_door}]
expect: [{order: release_door, within: 10s}]
""")
    (case,) = played.cases
    assert case.why == "release_door of l1 by hand (no order of the gateway) at 10 s"
    assert why_in(Language.ZH, case.why) == "l1 在 10秒 由人现场操作：解除开门（不是网关的指令）"


@pytest.mark.parametrize("only", ["expected", "[{alarm: charger-silent, group: a}]"])
def test_an_alarm_that_names_together_what_is_expected_is_expected_too(only: str) -> None:
    played = play(f"""
devices: [{{kind: charger, id: p1, count: 6, group: a, building: a}}]
timeline: [{{at: 1m, group: a, power: cut}}]
expect: [{{alarm: charger-silent, group: a, not_before: 9m, within: 12m}}]
only: {only}
""")
    assert played.passed, [case.why for case in played.cases]
    assert {alarm.device for alarm in played.board if alarm.members is not None} == {"gw-1"}


def test_what_is_so_at_the_beginning_was_not_otherwise_before() -> None:
    played = play("""
devices: [{kind: charger, id: p1, building: shed-1}]
initial:
  - {device: p1, action: unplug}
  - {device: p1, set: {temperature: 79}}
expect: [{alarm: charger-hot, device: p1, within: 20s}]
never: [charger-heating, cut_power]
duration: 5m
""")
    assert played.passed, [case.why for case in played.cases]


def test_who_expects_an_order_too_soon_is_told_when_it_came() -> None:
    played = play("""
devices: [{kind: charger, id: p1, building: shed-1}]
timeline: [{at: 10s, device: p1, fault: leakage, current: 60}]
expect: [{order: cut_power, within: 10s}]
duration: 1m
""")
    assert [case.why for case in played.cases] == ["order cut_power, too late at 13 s"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_broker_that_forgets_is_told_of_for_a_day(forgets: bool) -> None:
    played = play(f"""
devices: [{{kind: button, id: b1, building: "1"}}]
timeline: [{{at: 1m, broker: restart, forgets: {str(forgets).lower()}}}]
expect:
  - {{alarm: gateway-session-lost, severity: medium, after: 1m, not_before: 5s, within: 10s}}
  - {{alarm: gateway-session-lost, change: cleared, after: 1d1m, within: 10s}}
""")
    assert played.passed is forgets


def test_what_waits_for_a_stopped_gateway_is_gone_with_a_broker_that_forgets() -> None:
    for forgets, comes in ((False, True), (True, False)):
        played = play(f"""
devices: [{{kind: button, id: b1, building: "1"}}]
timeline:
  - {{at: 1m, gateway: stop}}
  - {{at: 2m, device: b1, action: emergency}}
  - {{at: 3m, broker: restart, forgets: {str(forgets).lower()}}}
  - {{at: 4m, gateway: start}}
expect: [{{alarm: button-emergency, device: b1, after: 4m, within: 1m}}]
""")
        assert played.passed is comes
