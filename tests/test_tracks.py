"""A ride in a lift is one incident, whatever the camera loses and finds; staff have the last word."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from rules.alarms import Alarm
from rules.decisions import ClockStepped, Decision, Input, Instruction
from rules.engine import Engine
from rules.files import parse
from rules.state import freeze, thaw

T0 = 1_790_000_000_000
LIFT = Address("c1/elevator/l1")

RULES = """
rules:
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and score >= 0.6 and type != 'end'
    clear: type == 'end'
    for: 1s
    severity: medium
    text: {en: "{track}", zh: "{track}"}
    actions: [{command: hold_door, args: {seconds: 60, prompt: out}}]
  - id: forced
    kind: elevator
    when: ebike == 'forced'
    severity: high
    text: {en: "{floor}", zh: "{floor}"}
"""


class Lift:
    """An engine that hears one lift."""

    def __init__(self) -> None:
        rules = parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))])
        self.engine = Engine(rules, site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.said: list[tuple[str, str, float]] = []
        self.orders: list[tuple[str, float]] = []
        self.withheld: list[tuple[str, str]] = []
        self.last: dict[str, Alarm] = {}

    def at(self, second: float, given: Input | None = None) -> Decision:
        now = T0 + round(second * 1000)
        whole = [self.engine.tick(self.state, now)]
        if given is not None:
            whole.append(self.engine.step(self.state, given, now))
        for decision in whole:
            for change in decision.changes:
                self.said.append(
                    (change.transition.value, change.alarm.key.rpartition("/")[2], (change.at - T0) / 1000)
                )
                self.last[change.alarm.key] = change.alarm
            self.orders += [(order.command, (order.issued_at - T0) / 1000) for order in decision.orders]
            self.withheld += [(each.command, each.reason) for each in decision.withheld]
        return whole[-1]

    def car(self, second: float, **values: Scalar) -> None:
        now = T0 + round(second * 1000)
        self.at(second, Reading(Channel.TELEMETRY, LIFT, values, now, now))

    def sees(self, second: float, kind: str, track: str, label: str = "ebike", score: float = 0.9) -> None:
        now = T0 + round(second * 1000)
        fields: dict[str, Scalar] = {"type": kind, "track": track, "label": label, "score": score}
        self.at(second, Reading(Channel.EVENT, LIFT, fields, now, now))

    def instructs(self, second: float, command: str) -> None:
        self.at(second, Instruction(LIFT, command, {}, "Wang", "", T0 + round(second * 1000)))

    def restart(self) -> None:
        header, devices = freeze(self.state)
        self.state = thaw(header, devices)
        self.engine.derive_deadlines(self.state)

    def outcome(self, track: str = "a") -> str | None:
        return self.last[f"ebike:{LIFT}/{track}"].outcome


def boarded() -> Lift:
    lift = Lift()
    lift.car(0, door="open", floor=1, fire_recall=False)
    lift.sees(1, "new", "a")
    lift.at(2)
    assert lift.said == [("raised", "a", 2)]
    assert lift.orders == [("hold_door", 2)]
    return lift


def test_an_e_bike_that_leaves_is_over_when_the_door_has_closed_behind_it() -> None:
    lift = boarded()
    lift.sees(10, "end", "a")
    lift.car(15, door="closed", floor=1)
    lift.at(60)
    assert lift.said[1:] == [("cleared", "a", 18)]
    assert lift.outcome() == "left"


def test_the_door_is_eased_three_seconds_after_the_e_bike_is_gone() -> None:
    lift = boarded()
    lift.sees(10, "end", "a")
    lift.at(20)
    assert lift.orders[1:] == [("release_door", 13)]


def test_the_door_is_not_eased_while_another_e_bike_is_in_sight() -> None:
    lift = boarded()
    lift.sees(3, "new", "b")
    lift.sees(10, "end", "a")
    lift.at(20)
    assert [command for command, _ in lift.orders] == ["hold_door", "hold_door"]


def test_found_again_under_another_track_in_the_same_door_cycle_it_is_the_same_incident() -> None:
    lift = boarded()
    lift.sees(10, "end", "a")
    lift.sees(18, "new", "b")
    lift.sees(30, "update", "b")
    lift.car(31, door="closed", floor=1)
    lift.sees(33, "end", "b")
    lift.sees(40, "new", "c")
    lift.at(120)
    assert lift.said == [("raised", "a", 2)]
    assert [command for command, _ in lift.orders] == ["hold_door", "release_door"]


def test_lost_behind_a_closed_door_it_is_still_aboard_until_the_door_has_opened_and_closed() -> None:
    lift = boarded()
    lift.car(5, door="closed", floor=1)
    lift.sees(6, "end", "a")
    lift.at(100)
    assert lift.said == [("raised", "a", 2)]
    lift.car(101, door="open", floor=1)
    lift.car(110, door="closed", floor=1)
    lift.at(120)
    assert lift.said[1:] == [("cleared", "a", 113)]


def test_after_the_door_has_closed_behind_it_another_e_bike_is_another_incident() -> None:
    lift = boarded()
    lift.sees(10, "end", "a")
    lift.car(15, door="closed", floor=1)
    lift.car(30, door="open", floor=1)
    lift.sees(31, "new", "b")
    lift.at(40)
    assert lift.said == [("raised", "a", 2), ("cleared", "a", 18), ("raised", "b", 32)]


def test_pushed_through_is_forced_and_stays_so_when_it_has_left() -> None:
    lift = boarded()
    lift.car(65, door="closed", floor=1)
    lift.car(80, door="open", floor=5)
    lift.sees(84, "end", "a")
    lift.car(88, door="closed", floor=5)
    lift.at(100)
    assert lift.said[1:] == [
        ("changed", "a", 80),
        ("raised", "l1", 80),
        ("cleared", "a", 91),
        ("cleared", "l1", 91),
    ]
    assert lift.outcome() == "forced"


def test_a_floor_told_late_does_not_make_a_boarding_look_forced() -> None:
    """The camera's session is read before the lift's: what is known of door and floor may be old by seconds."""
    lift = Lift()
    lift.car(0, door="closed", floor=7, fire_recall=False)
    lift.sees(1, "new", "a")
    lift.car(1, door="open", floor=1)
    lift.sees(9, "end", "a")
    lift.car(12, door="closed", floor=1)
    lift.car(30, door="closed", floor=5)
    lift.at(60)
    assert lift.said == [("raised", "a", 2), ("cleared", "a", 15)]
    assert lift.outcome() == "left"


def test_the_end_of_a_track_is_the_end_where_nothing_is_known_of_the_door() -> None:
    lift = Lift()
    lift.sees(0, "new", "a")
    lift.sees(5, "end", "a")
    assert lift.said == [("raised", "a", 1), ("cleared", "a", 5)]
    assert lift.outcome() is None


def test_what_is_neither_seen_nor_told_of_is_over_after_five_minutes_and_nobody_knows_how() -> None:
    lift = boarded()
    lift.car(5, door="closed", floor=1)
    lift.sees(6, "end", "a")
    lift.at(1_000)
    assert lift.said[1:] == [("cleared", "a", 306)]
    assert lift.outcome() is None


def test_a_second_look_that_finds_a_stroller_ends_with_its_track() -> None:
    lift = boarded()
    lift.sees(3, "update", "a", "stroller")
    lift.car(5, door="closed", floor=1)
    lift.car(9, door="open", floor=4)
    lift.sees(12, "end", "a", "stroller")
    assert lift.said[1:] == [("cleared", "a", 12)]


def test_staff_release_is_kept_with_the_alarm_and_that_incident_is_not_held_again() -> None:
    lift = boarded()
    lift.instructs(10, "release_door")
    lift.sees(12, "end", "a")
    lift.sees(14, "new", "b")
    lift.car(20, door="closed", floor=1)
    lift.car(40, door="open", floor=5)
    lift.sees(44, "end", "b")
    lift.car(48, door="closed", floor=5)
    lift.at(60)
    assert lift.said[1:] == [("changed", "a", 10), ("cleared", "a", 51)]
    assert lift.outcome() == "released"
    assert [command for command, _ in lift.orders[:2]] == ["hold_door", "release_door"]
    assert "hold_door" not in [command for command, _ in lift.orders[2:]]


def test_released_before_its_dwell_was_over_it_is_told_and_not_held() -> None:
    lift = Lift()
    lift.car(0, door="open", floor=1, fire_recall=False)
    lift.sees(1, "new", "a")
    lift.instructs(1.5, "release_door")
    lift.at(5)
    assert lift.said == [("raised", "a", 2)]
    assert lift.outcome() == "released"
    assert lift.orders == [("release_door", 1.5)]
    assert lift.withheld == [("hold_door", "staff let it ride")]


@pytest.mark.parametrize(("recall", "told"), [(None, "unknown"), (True, "true")])
def test_a_person_cannot_hold_a_door_under_fire_recall_either(recall: bool | None, told: str) -> None:
    lift = Lift()
    lift.car(0, door="open", **({} if recall is None else {"fire_recall": recall}))
    lift.instructs(1, "hold_door")
    assert lift.orders == []
    assert lift.withheld == [("hold_door", f"fire_recall is {told}")]


def test_a_step_of_the_clock_neither_ends_nor_prolongs_an_incident() -> None:
    lift = boarded()
    lift.sees(10, "end", "a")
    lift.car(15, door="closed", floor=1)
    lift.at(16, ClockStepped(3_600_000, T0 + 16_000))
    lift.at(3_617)
    assert lift.said == [("raised", "a", 2)]
    lift.at(3_619)
    assert lift.said[1:] == [("cleared", "a", 3_618)]


STEPS = st.one_of(
    st.tuples(st.just("car"), st.sampled_from(["open", "closed"]), st.integers(1, 3)),
    st.tuples(st.just("see"), st.sampled_from(["new", "update", "end"]), st.sampled_from("abc")),
    st.tuples(st.just("staff"), st.just(""), st.just("")),
)


def play(steps: Sequence[tuple[int, tuple[str, str, str | int]]], *, restarts: bool) -> Lift:
    lift, second = Lift(), 0
    for passed, (what, word, more) in steps:
        second += passed
        if restarts:
            lift.restart()
        if what == "car":
            lift.car(second, door=word, floor=more, fire_recall=False)
        elif what == "see":
            lift.sees(second, word, str(more))
        else:
            lift.instructs(second, "release_door")
    lift.at(second + 1_000)
    return lift


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), STEPS), max_size=25))
def test_restarts_change_nothing_and_no_incident_is_raised_twice(
    steps: list[tuple[int, tuple[str, str, str | int]]],
) -> None:
    once, restarted = play(steps, restarts=False), play(steps, restarts=True)
    assert (once.said, once.orders, once.withheld) == (restarted.said, restarted.orders, restarted.withheld)
    assert once.last == restarted.last
    standing: set[str] = set()
    for change, track, _ in once.said:
        if change == "raised":
            assert track not in standing
            standing.add(track)
        elif change == "cleared":
            standing.discard(track)


def test_a_second_look_that_finds_a_stroller_frees_the_door() -> None:
    lift = Lift()
    lift.car(0, door="open", floor=1, fire_recall=False)
    lift.sees(1, "new", "a")
    lift.sees(5, "update", "a", "stroller", 0.4)
    lift.at(6)
    assert lift.orders == [("hold_door", 2)]  # not sure enough
    lift.sees(7, "update", "a", "stroller")
    lift.sees(8, "update", "a", "stroller")
    assert lift.orders[1:] == [("release_door", 7)]
    lift.sees(20, "end", "a", "stroller")
    lift.at(30)
    assert lift.said == [("raised", "a", 2), ("cleared", "a", 20)]


def test_beside_a_stroller_the_door_is_held_for_the_e_bike() -> None:
    lift = Lift()
    lift.car(0, door="open", floor=1, fire_recall=False)
    lift.sees(1, "new", "a")
    lift.sees(2, "new", "b")
    lift.sees(5, "update", "a", "stroller")
    assert [command for command, _ in lift.orders] == ["hold_door", "hold_door"]
    lift.sees(20, "end", "b")
    lift.at(24)
    assert [command for command, _ in lift.orders[2:]] == ["release_door"]
