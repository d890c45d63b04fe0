"""Late messages: judged as of when they were so, shown as late, and never mistaken for what is so now."""

import pytest

from devices.readings import Address, Channel, Flag, Reading, Scalar
from rules.alarms import AlarmState
from rules.engine import Engine
from tests.rule_world import BUTTON, PORT, SMOKE, T0, ms, rules

RULES = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    clear: temperature < 55
    for: 30s
    severity: high
    text: {en: "{temperature:.0f}", zh: "{temperature:.0f}"}
  - id: cut
    kind: charger
    when: temperature >= 80
    severity: critical
    text: {en: "{temperature:.0f}", zh: "{temperature:.0f}"}
    actions: [{command: cut_power}]
  - id: mean
    kind: charger
    when: max(temperature, '5m') >= 90
    severity: low
    text: {en: "{device}", zh: "{device}"}
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
  - id: press
    kind: button
    when: action == 'emergency'
    cancel: action == 'cancel'
    severity: critical
    text: {en: help, zh: 求助}
"""


class Story:
    """What devices say: by their clock (seconds after the beginning), and when it comes."""

    def __init__(self) -> None:
        self.engine = Engine(rules(RULES), site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.changes: list[tuple[str, str, bool]] = []
        self.orders: list[str] = []

    def hear(
        self, said: float, came: float, address: Address = PORT, /, flags: int = 0, **values: Scalar
    ) -> None:
        now = ms(came)
        channel = Channel.EVENT if "action" in values else Channel.TELEMETRY
        reading = Reading(channel, address, values, ms(said), now, flags)
        decision = self.engine.step(self.state, reading, now)
        self.changes += [
            (change.alarm.rule, change.transition.value, change.alarm.late) for change in decision.changes
        ]
        self.orders += [order.command for order in decision.orders]


def test_late_smoke_that_is_over_is_told_as_late_and_waits_for_a_person() -> None:
    story = Story()
    story.hear(600, 601, SMOKE, smoke=False)
    story.hear(300, 602, SMOKE, smoke=True)
    assert story.changes == [("fire", "raised", True), ("fire", "cleared", True)]
    [alarm] = story.state.alarms.values()
    assert (alarm.state, alarm.source_time) == (AlarmState.RTN_UNACKED, T0 + 300_000)
    assert story.state.devices[SMOKE].points["smoke"] is False


def test_a_late_message_ends_no_alarm_and_changes_no_point() -> None:
    story = Story()
    story.hear(600, 601, SMOKE, smoke=True)
    story.hear(300, 602, SMOKE, smoke=False)
    assert story.changes == [("fire", "raised", False)]
    assert story.state.devices[SMOKE].points["smoke"] is True


def test_late_messages_of_one_stretch_tell_an_alarm_once_with_its_values_and_no_order() -> None:
    story = Story()
    story.hear(600, 601, temperature=40)
    for said in (300, 310, 320):
        story.hear(said, 602, temperature=85)
    assert [change for change in story.changes if change[0] == "cut"] == [
        ("cut", "raised", True),
        ("cut", "cleared", True),
    ]
    assert story.orders == []
    assert {alarm.text["en"] for alarm in story.state.alarms.values() if alarm.rule == "cut"} == {
        "85 (late: so at 14:18)"
    }


def test_a_delay_of_late_messages_counts_by_their_own_times() -> None:
    for last, told in ((329, []), (330, [("hot", "raised", True), ("hot", "cleared", True)])):
        story = Story()
        story.hear(600, 601, temperature=40)
        story.hear(300, 602, temperature=70)
        story.hear(last, 603, temperature=70)
        assert story.changes == told


def test_what_late_messages_tell_and_newer_ones_do_not_deny_stands() -> None:
    story = Story()
    story.hear(600, 601, temperature=60)
    story.hear(300, 602, temperature=70)
    story.hear(330, 603, temperature=70)
    assert story.changes == [("hot", "raised", True)]
    story.hear(610, 611, temperature=50)
    assert story.changes[1:] == [("hot", "cleared", True)]


def test_a_late_message_feeds_no_window() -> None:
    story = Story()
    story.hear(600, 601, temperature=40)
    story.hear(580, 602, temperature=95)
    assert story.state.devices[PORT].points["max(temperature, 5m)"] == 40
    story.hear(595, 603, temperature=92)
    assert story.state.devices[PORT].points["max(temperature, 5m)"] == 92


def test_a_point_that_nothing_newer_told_is_taken_from_a_late_message() -> None:
    story = Story()
    story.hear(600, 601, temperature=40)
    story.hear(300, 602, power=700)
    assert story.state.devices[PORT].points["power"] == 700


def test_a_late_press_is_raised_and_shown_as_late_and_the_next_is_not() -> None:
    story = Story()
    story.hear(600, 601, BUTTON, action="test")
    story.hear(300, 602, BUTTON, action="emergency")
    story.hear(620, 621, BUTTON, action="emergency")
    assert story.changes == [("press", "raised", True), ("press", "reraised", False)]


def test_only_a_time_that_is_believed_can_be_late() -> None:
    story = Story()
    story.hear(600, 601, SMOKE, smoke=False)
    story.hear(602, 602, SMOKE, Flag.CLOCK_DOUBTED, smoke=True)
    assert story.changes == [("fire", "raised", False)]


def test_messages_that_overtake_each_other_by_seconds_are_not_late() -> None:
    story = Story()
    story.hear(600, 601, SMOKE, smoke=False)
    story.hear(590, 602, SMOKE, smoke=True)
    assert story.changes == [("fire", "raised", False)]


def test_a_clock_that_was_set_back_makes_a_device_look_late_for_a_minute_and_no_longer() -> None:
    story = Story()
    story.hear(600, 601, SMOKE, smoke=False)
    story.hear(300, 661, SMOKE, smoke=True)
    assert story.changes == [("fire", "raised", True), ("fire", "cleared", True)]
    story.hear(301, 662, SMOKE, smoke=True)
    assert story.changes[2:] == [("fire", "reraised", False)]
    story.hear(302, 663, SMOKE, smoke=False)
    assert story.changes[3:] == [("fire", "cleared", False)]


@pytest.mark.parametrize("underway", [0, 0.2], ids=["at once", "on its way"])
def test_what_was_said_before_the_smoke_ends_no_alarm_when_it_comes_seconds_after_it(underway: float) -> None:
    story = Story()
    story.hear(600, 600 + underway, SMOKE, smoke=False)
    story.hear(607, 607 + underway, SMOKE, smoke=True)
    story.hear(606, 608, SMOKE, smoke=False, battery=80)
    story.hear(606, 610, SMOKE, smoke=False)
    assert story.changes == [("fire", "raised", False)]
    points = story.state.devices[SMOKE].points
    assert (points["smoke"], points["battery"]) == (True, 80)
    story.hear(608, 611, SMOKE, smoke=False)
    assert story.changes[1:] == [("fire", "cleared", False)]


def test_copies_of_what_was_said_before_the_smoke_end_nothing_also_where_one_came_before_it() -> None:
    story = Story()
    story.hear(600, 600, SMOKE, smoke=False)
    story.hear(600, 603, SMOKE, smoke=False)
    story.hear(604, 604, SMOKE, smoke=True)
    story.hear(600, 606, SMOKE, smoke=False)
    story.hear(600, 607, SMOKE, smoke=False)
    assert story.changes == [("fire", "raised", False)]


def test_a_clock_that_stands_still_ends_an_alarm_as_any_other() -> None:
    story = Story()
    for came, smoke in ((601, False), (602, True), (603, False)):
        story.hear(600, came, SMOKE, smoke=smoke)
    assert story.changes == [("fire", "raised", False), ("fire", "cleared", False)]


def test_what_was_said_before_it_got_hot_takes_back_no_delay_that_runs() -> None:
    story = Story()
    story.hear(600, 600, temperature=50)
    story.hear(610, 610, temperature=70)
    story.hear(605, 612, temperature=60)
    assert [port.due for port in story.state.devices[PORT].ongoing.values()] == [ms(640)]


def test_a_clock_set_back_by_seconds_ends_an_alarm_as_soon_as_it_has_gone_on() -> None:
    story = Story()
    story.hear(600, 600, SMOKE, smoke=True)
    story.hear(595, 601, SMOKE, smoke=False)
    story.hear(601, 607, SMOKE, smoke=False)
    assert story.changes == [("fire", "raised", False), ("fire", "cleared", False)]
