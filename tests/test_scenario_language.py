"""The scenario language: what a file means, what is refused and how it is told, and what the judge makes of it."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.faults import ConfigurationError
from devices.readings import Channel
from rules.language.entries import write_duration
from rules.language.texts import Language
from simulators.causes import Cause, Load, Outage, Saying, Setting, Surrounding, Unsetting
from simulators.device import Happening
from simulators.line import Line
from simulators.phrases import why_in
from simulators.scenario import Scenario, parse_scenario
from simulators.spans import Bounds, read_bounds, read_span
from simulators.verdicts import Judge, Missed, Ordered

HEAD = """name: x
devices:
  - {kind: charger, id: p1, count: 3, building: shed-1, group: shed-1}
  - {kind: smoke, id: s1, count: 4, building: "3", unit: "1", floor: "2"}
  - {kind: smoke, id: s5, building: "3", unit: "2", floor: "7"}
  - {kind: button, id: b1, count: 2}
  - {kind: elevator, id: lift-1, building: "3", unit: "1"}
"""


def story(text: str) -> Scenario:
    return parse_scenario(HEAD + text, "story.yaml")


def line(text: str) -> list[Cause]:
    return list(story(f"timeline:\n  - {text}\n").timeline)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        story(text)
    return [str(fault) for fault in caught.value.faults]


# --- times and counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("90 seconds", 90_000),
        ("2 min", 120_000),
        ("1h 5m", 3_900_000),
        ("-365d", -365 * 86_400_000),
        ("+8h", 28_800_000),
        ("1y", 365 * 86_400_000),
        ("2周", 14 * 86_400_000),
        ("3分钟", 180_000),
        ("0", 0),
        ("10", None),
        ("fast", None),
        ("", None),
        ("5x", None),
        ("1m-2m", None),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, ms: int | None) -> None:
    assert read_span(text) == ms


@given(st.integers(1, 999_999_999))
def test_every_duration_of_a_rule_is_one_of_a_scenario(ms: int) -> None:
    assert read_span(write_duration(ms)) == ms
    assert read_span(f"-{write_duration(ms)}") == -ms


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("3", Bounds(3, 3)),
        ("2..5", Bounds(2, 5)),
        ("2 to 5", Bounds(2, 5)),
        (">= 2", Bounds(2)),
        ("at least 2", Bounds(2)),
        ("<= 4", Bounds(0, 4)),
        ("at most 4", Bounds(0, 4)),
        ("none", Bounds(0, 0)),
        ("5..2", None),
        ("some", None),
        (">= 2..3", None),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, bounds: Bounds | None) -> None:
    assert read_bounds(text) == bounds


# --- who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "devices"),
    [
        ("device: s2", "s2"),
        ("device: [s2, s4]", "s2 s4"),
        ("devices: 's*', unit: '2'", "s5"),
        ("kind: smoke", "s1 s2 s3 s4 s5"),
        ("kind: smoke, floor: '7'", "s5"),
        ("building: '3', kind: [smoke]", "s1 s2 s3 s4 s5"),
        ("device: smoke/s3", "s3"),
    ],
)
def test_devices_are_named_by_words_that_all_have_to_fit(who: str, devices: str) -> None:
    (cause,) = line(f"{{at: 1s, {who}, fault: tampered}}")
    assert " ".join(cause.devices) == devices


def test_a_pick_is_as_many_and_the_same_for_the_same_seed() -> None:
    first, again = (line("{at: 1s, kind: smoke, pick: 2, fault: tampered}")[0].devices for _ in range(2))
    assert first == again
    assert len(first) == 2


# --- causes -------------------------------------------------------------------------------------------------


def test_what_repeats_or_goes_from_device_to_device_is_written_out() -> None:
    assert [
        cause.at_s for cause in line("{at: 1s, device: b1, action: emergency, times: 3, every: 20s}")
    ] == [1, 21, 41]
    one_by_one = line("{at: 1s, kind: charger, fault: welded, apart: 2s}")
    assert [(cause.at_s, cause.devices) for cause in one_by_one] == [(1, ("p1",)), (3, ("p2",)), (5, ("p3",))]


def test_a_figure_of_a_fault_that_is_called_as_a_repetition_is_the_fault_s() -> None:
    (copies,) = line("{at: 1s, kind: charger, fault: duplicate, apart: 3s}")
    assert copies.devices == ("p1", "p2", "p3")
    assert copies.act == Happening("fault", "duplicate", {"apart": 3.0})
    turns = line("{at: 1s, kind: charger, fault: flapping, every: 30s, for: 1m}")
    assert [cause.at_s for cause in turns] == [1, 1, 31]


def test_a_time_after_which_it_ends_is_a_cause_of_its_own() -> None:
    assert [
        (cause.at_s, cause.act) for cause in line("{at: 1s, device: p1, set: {temperature: 70}, for: 9s}")
    ] == [
        (1, Setting({"temperature": 70.0})),
        (10, Unsetting(("temperature",))),
    ]
    acts = [cause.act for cause in line("{at: 1s, building: '3', power: cut, for: 9s}")]
    assert acts == [Happening("power", "cut"), Happening("power", "back")]
    assert line("{at: 1s, building: '3', power: cut}")[0].devices == ("lift-1",), "batteries go on"
    assert len(line("{at: 1s, building: '3', power: cut, hub: true}")[0].devices) == 6
    assert [cause.act for cause in line("{at: 1s, broker: restart}")] == [
        Outage(Surrounding.BROKER),
        Outage(Surrounding.BROKER, back=True),
    ]
    assert [cause.act for cause in line("{at: 1s, load: 50, for: 1m}")] == [Load(50), Load(None)]
    assert [cause.act for cause in line("{at: 1s, device: p1, fault: leakage, for: 1m}")][1] == Happening(
        "fault", "none"
    )


def test_flapping_is_told_once_and_breaks_the_connection_each_turn() -> None:
    causes = line("{at: 0s, device: lift-1, fault: flapping, every: 20s, for: 1m}")
    assert [cause.at_s for cause in causes if cause.quiet] == [0, 20, 40]
    assert [cause.quiet for cause in causes].count(False) == 1


def test_a_message_is_checked_as_a_real_one_and_raw_is_not() -> None:
    (event,) = line("{at: 1s, device: lift-1, event: {type: new, track: '7', label: ebike, score: 0.9}}")
    assert event.act == Saying(Channel.EVENT, {"type": "new", "track": "7", "label": "ebike", "score": 0.9})
    (raw,) = line("{at: 1s, device: lift-1, channel: event, raw: '{broken'}")
    assert raw.act == Saying(Channel.EVENT, raw=b"{broken")


def test_keys_may_be_written_with_blanks_or_hyphens() -> None:
    scenario = story(
        "starts-at: '07:30'\nexpect: [{alarm: x, device: b1, not before: 1s, clears-within: 5s, within: 3s}]"
    )
    (one,) = scenario.expect
    assert (one.earliest_s, one.clears_within_s, scenario.starts_at_s) == (1, 5, 27_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("timeline: [{at: 1s, device: s1, fault: flamming}]", "a smoke has no such fault; it has"),
        ("timeline: [{at: 1s, device: s1, fault: flamming}]", "did you mean 'flaming'?"),
        (
            "timeline: [{at: 1s, device: s9, fault: flaming}]",
            "is not among the devices of this scenario (is 's9')",
        ),
        (
            "timeline: [{at: 1s, kind: smok, fault: flaming}]",
            "timeline[0].kind: no device of this scenario has this kind",
        ),
        (
            "timeline: [{at: 1s, kind: smoke, building: '4', fault: flaming}]",
            "has this building (1, 2, 3, shed-1) (is '4')",
        ),
        (
            "timeline: [{at: 1s, kind: charger, unit: '1', fault: welded}]",
            "no device of this scenario is kind charger, unit 1",
        ),
        ("timeline: [{at: 1s, fault: flaming}]", "timeline[0].device: is missing; or name devices by kind"),
        ("timeline: [{at: 1s, device: [s1, p1], fault: battery}]", "a charger has no such fault"),
        (
            "timeline: [{at: 1s, device: p1, set: {temprature: 70}}]",
            "timeline[0].set.temprature: unknown key",
        ),
        ("timeline: [{at: 1s, device: p1, set: {temperature: 700}}]", "<= 200"),
        ("timeline: [{at: 1s, device: p1, event: {action: emergency}}]", "a charger sends none"),
        (
            "timeline: [{at: 1s, device: [p1, s1], set: {temperature: 70}}]",
            "names points of one kind, these are charger, smoke",
        ),
        ("timeline: [{at: 1s, device: p1, command: restore}]", "did you mean 'restore_power'?"),
        ("timeline: [{at: 1s, device: s1, power: cut}]", "with `hub: true` their radio hub does"),
        ("timeline: [{at: 1s, device: b1, action: emergency, times: 3}]", "needs `every`"),
        ("timeline: [{at: 1s, acknowledge: smoke-alarm, apart: 5s}]", "timeline[0].apart: needs devices"),
        ("timeline: [{at: 1s, load: 50, apart: 5s}]", "timeline[0].apart: needs devices"),
        ("timeline: [{at: 1s, device: s1, fault: flaming, set: {battery: 3}}]", "says 2 of fault, action"),
        ("timeline: [{at: 1s, device: s1, fault: clock, by: 900d}]", "must be from -366d to 366d"),
        ("timeline: [{at: 1s, device: s1, fault: lossy, share: 140%}]", "must be a share from 0 to 1"),
        ("timeline: [{at: 1s, cloud: gone}]", "must be one of away, back"),
        ("expect: [{alarm: x, device: b1, severity: hi, within: 3s}]", "expect[0].severity: must be one of"),
        (
            "expect: [{alarm: x, after: fier, within: 3s}]\ntimeline: [{at: 1s, as: fire, device: s1, fault: broken}]",
            "did you mean 'fire'?",
        ),
        ("expect: [{alarm: x, device: b1}]", "say how soon, or `by` which time"),
        ("expect: [{alarm: x, device: b1, within: 3s, by: 9s}]", "says the same as `within`"),
        ("expect: [{alarm: x, device: b1, not_before: 9s, within: 3s}]", "leaves no time for it"),
        ("expect: [{order: cut_powr, device: p1, within: 3s}]", "did you mean 'cut_power'?"),
        ("expect: [{state: unackd, alarm: x, at: 3s}]", "did you mean 'unacked'?"),
        ("expect: [{alarm: x, count: few, within: 3s}]", "must be a count such as 3"),
        ("never: [{alarm: x, servity: high}]", "did you mean 'severity'?"),
        ("initial: [{at: 1s, device: s1, fault: flaming}]", "initial[0].at: unknown key"),
        ("timezone: Asia/Shanghay", "is no time zone"),
        ("starts_at: 2026-02-30 07:30", "must be a time of day"),
    ],
)
def test_a_mistake_is_told_with_path_value_and_remedy(text: str, told: str) -> None:
    assert any(told in fault for fault in faults(text)), faults(text)


def test_an_id_that_gives_a_room_away_is_refused_as_in_the_registry() -> None:
    text = (
        "name: x\ndevices: [{kind: smoke, id: sm-1102, building: '3', unit: '1', floor: '11', room: '1102'}]"
    )
    with pytest.raises(ConfigurationError, match="sm-1102: id contains the room number 1102"):
        parse_scenario(text, "story.yaml")


# --- expectations -------------------------------------------------------------------------------------------


def test_several_devices_mean_each_of_them_unless_a_count_or_any_says_otherwise() -> None:
    each, any_, three, nobody = (
        story(f"expect: [{{alarm: x, {who}within: 3s}}]").expect
        for who in ("group: shed-1, ", "group: shed-1, any: true, ", "group: shed-1, count: 3, ", "")
    )
    assert [one.device for one in each] == ["p1", "p2", "p3"]
    assert [(one.device, one.count) for one in any_] == [("group shed-1", Bounds(1))]
    assert [one.count for one in three] == [Bounds(3, 3)]
    assert [one.devices for one in nobody] == [None]


def test_of_devices_named_by_their_place_those_are_meant_that_the_rule_or_order_is_about() -> None:
    for expected, devices in (
        ("alarm: smoke-fault, building: '3'", ["s1", "s2", "s3", "s4", "s5"]),
        ("alarm: elevator-silent, building: '3'", ["lift-1"]),
        ("order: hold_door, building: '3'", ["lift-1"]),
        ("alarm: fire-recall, building: '3'", ["s1", "s2", "s3", "s4", "s5", "lift-1"]),
        (
            "alarm: smoke-fault, building: '3', kind: [smoke, elevator]",
            ["s1", "s2", "s3", "s4", "s5", "lift-1"],
        ),
    ):
        assert [one.device for one in story(f"expect: [{{{expected}, within: 3s}}]").expect] == devices


def test_times_count_from_a_named_line_or_from_the_first_thing_that_happens_to_the_device() -> None:
    text = (
        "initial: [{device: b1, fault: battery}]\n"
        "timeline: [{at: 5s, device: b1, action: test}, {at: 9s, as: call, device: b1, action: emergency}]\n"
        "expect:\n- {alarm: x, device: b1, within: 3s}\n- {alarm: x, device: b1, after: call, within: 3s}\n"
        "- {alarm: x, device: b1, by: 8s}"
    )
    assert [(one.after_s, one.until_s) for one in story(text).expect] == [(5, 8), (9, 12), (5, 8)]


def judged(text: str) -> Judge:
    scenario = story(text)
    return Judge(scenario.expect, others_forbidden=scenario.others_forbidden, allowed=scenario.allowed)


def wire(alarm_id: str = "A", *, version: int = 1, **fields: object) -> bytes:

    alarm = {
        "id": alarm_id,
        "rule": "smoke-alarm",
        "kind": "smoke",
        "device": "s1",
        "severity": "critical",
        "state": "unacked",
    }
    return msgspec.json.encode(alarm | {"version": version, **fields})


def why(judge: Judge) -> list[str]:
    list(judge.pass_time(float("inf")))
    return [case.why for case in judge.cases if not case.passed]


def test_sooner_than_it_may_is_wrong_and_so_is_another_severity() -> None:
    early = judged("expect: [{alarm: smoke-alarm, device: s1, not_before: 5s, within: 9s}]")
    assert any(isinstance(verdict, Missed) for verdict in early.see("A", wire(), 4))
    mild = judged("expect: [{alarm: smoke-alarm, device: s1, severity: critical, within: 9s}]")
    list(mild.see("A", wire(severity="medium"), 4))
    assert why(mild) == ["raised with severity medium at 4 s"]


def test_each_alarm_that_stands_though_none_should_is_named_in_both_languages() -> None:
    judge = judged("expect: [{state: absent, alarm: smoke-alarm, at: 9s}]")
    for alarm_id, device in (("A", "s1"), ("B", "s2")):
        list(judge.see(alarm_id, wire(alarm_id, device=device), 4))
    (told,) = why(judge)
    assert told == "smoke-alarm of s1 is unacked, critical, 1×; smoke-alarm of s2 is unacked, critical, 1×"
    chinese = (f"smoke-alarm / {device} 为未确认，级别 紧急，1 次" for device in ("s1", "s2"))
    assert why_in(Language.ZH, told) == "；".join(chinese)


def test_an_alarm_must_be_over_in_time_where_that_is_said() -> None:
    for cleared_s, passed in ((8, True), (30, False)):
        judge = judged("expect: [{alarm: smoke-alarm, device: s1, within: 9s, clears_within: 5s}]")
        list(judge.see("A", wire(), 4))
        list(judge.pass_time(cleared_s))
        list(
            judge.see("A", wire(version=2, cleared_at="2026-11-22T08:00:00Z", state="rtn_unacked"), cleared_s)
        )
        assert (not why(judge)) is passed


def test_a_count_is_of_alarms_not_of_their_occurrences() -> None:
    judge = judged("expect: [{alarm: '*', count: 2, within: 9s}]")
    list(judge.see("A", wire("A"), 1))
    list(judge.see("A", wire("A", version=2, occurrences=2), 2))
    list(judge.see("B", wire("B", device="s2"), 3))
    assert why(judge) == []
    judge = judged("expect: [{alarm: '*', count: '<= 1', within: 9s}]")
    list(judge.see("A", wire("A"), 1))
    assert [type(verdict) for verdict in judge.see("B", wire("B", device="s2"), 3)][-1] is Missed


def test_what_must_never_come_fails_when_it_comes_and_in_its_time_only() -> None:
    judge = judged("never: [{alarm: smoke-alarm, by: 5s}, {order: cut_power, device: p1}]\nduration: 1m")
    list(judge.see("A", wire(), 6))
    list(judge.see_order(Ordered(7, "p2", "cut_power", {}, "done")))
    assert why(judge) == []
    judge = judged("never: [{order: cut_power, device: p1}]\nduration: 1m")
    list(judge.see_order(Ordered(7, "p1", "cut_power", {}, "done")))
    assert why(judge) == ["order cut_power at 7 s"]


def test_only_forbids_what_is_neither_expected_nor_listed() -> None:
    judge = judged(
        "expect: [{alarm: smoke-alarm, device: s1, within: 9s}]\nonly: [{alarm: 'smoke-*', device: s2}]"
    )
    list(judge.see("A", wire(), 1))
    list(judge.see("B", wire("B", device="s2"), 2))
    assert judge.unexpected == []
    list(judge.see("C", wire("C", device="s3"), 3))
    assert [alarm.device for alarm in judge.unexpected] == ["s3"]


def test_how_an_alarm_stands_is_looked_at_when_its_time_has_come() -> None:
    judge = judged(
        "expect: [{state: acked, alarm: smoke-alarm, device: s1, at: 5s}, {state: absent, alarm: smoke-alarm, at: 9s}]"
    )
    list(judge.see("A", wire(), 1))
    list(judge.see("A", wire(version=2, state="acked", acked_at="2026-11-22T08:00:00Z"), 3))
    list(judge.pass_time(6))
    list(judge.see("A", b"", 7))
    assert why(judge) == []


# --- lines --------------------------------------------------------------------------------------------------


@given(st.integers(0, 1_000), st.binary(min_size=2, max_size=80))
def test_a_line_without_a_fault_carries_everything_at_once(seed: int, payload: bytes) -> None:

    whole = Line(random.Random(seed))
    assert list(whole.carry(payload, 1.0)) == [(0.0, payload)]
    whole.happen("delay", {"by": 4, "for": 10}, 0.0)
    whole.happen("duplicate", {"copies": 2, "apart": 3}, 0.0)
    assert list(whole.carry(payload, 1.0)) == [(4, payload), (7, payload), (10, payload)]
    assert [later_s for later_s, _ in whole.carry(payload, 11.0)] == [0, 3, 6], "the delay is over"
    whole.happen("none", {}, 12.0)
    assert list(whole.carry(payload, 12.0)) == [(0.0, payload)]
