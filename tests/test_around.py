"""Conditions over other devices, and orders to them: what a property may rely on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from rules.alarms import AlarmState
from rules.decisions import CatchingUp, ClockStepped, Listening
from rules.files import parse
from tests.around_world import REGISTRY, T0, Community, at

FIRE = """
rules:
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
"""

CONFIRMED = (
    FIRE
    + """
  - id: confirmed
    kind: smoke
    when: smoke and not test and count(smoke and not test, same='floor', within='3m') >= 2
    clear: smoke == false
    severity: critical
    text: {en: confirmed, zh: 确认}
    actions: [{command: sound, to: {kind: siren, same: building}, args: {tone: fire, seconds: 300}}]
"""
)


def rule(when: str, more: str = "", kind: str = "smoke") -> str:
    return f"""
rules:
  - id: r
    kind: {kind}
    when: {when}
    severity: medium
    text: {{en: r, zh: r}}
    {more}
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as told:
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])
    return str(told.value)


def test_people_are_told_of_the_first_sensor_and_building_control_acts_on_the_second() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True)
    assert world.said == [("raised", "fire", "a", 0)]
    assert world.orders == []
    world.hear(60, "smoke", "c", smoke=True)
    assert world.said_of("confirmed") == [("raised", "c", 60), ("raised", "a", 60)]
    assert sorted((order.address, order.command, order.args["seconds"]) for order in world.orders) == [
        ("c1/siren/horn", "sound", 300),
        ("c1/siren/horn", "sound", 300),
        ("c1/siren/horn2", "sound", 300),
        ("c1/siren/horn2", "sound", 300),
    ]
    assert len({order.id for order in world.orders}) == 4


def test_a_floor_is_the_same_only_in_its_unit_and_a_device_without_the_level_is_unknown() -> None:
    world = Community(CONFIRMED)
    for name in ("a", "d", "e", "shed"):
        world.hear(0, "smoke", name, smoke=True)
    assert world.said_of("confirmed") == []
    assert (
        world.state.devices[at("smoke", "a")].points["count(smoke and (not test), same=floor, within=3m)"]
        == 1
    )
    assert not any("count" in name for name in world.state.devices[at("smoke", "shed")].points)


def test_what_held_a_short_while_ago_counts_and_longer_ago_does_not() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(10, "smoke", "a", smoke=False)
    world.hear(189, "smoke", "c", smoke=True)
    assert world.said_of("confirmed") == [("raised", "c", 189)]
    late = Community(CONFIRMED)
    late.hear(0, "smoke", "a", smoke=True)
    late.hear(10, "smoke", "a", smoke=False)
    late.hear(190, "smoke", "c", smoke=True)
    assert late.said_of("confirmed") == []


def test_the_end_of_what_counted_is_judged_at_its_moment() -> None:
    world = Community(rule("any(smoke, same='room', within='3m')"))
    world.hear(0, "smoke", "b", smoke=False)
    world.hear(1, "smoke", "a", smoke=True)
    world.hear(20, "smoke", "a", smoke=False)
    world.hear(30, "smoke", "a", smoke=True)
    world.hear(40, "smoke", "a", smoke=False)
    world.at(1_000)
    assert world.said_of("r") == [("raised", "b", 1), ("cleared", "b", 220)]


def test_any_is_another_device_than_this_one() -> None:
    world = Community(rule("any(smoke, same='floor')"))
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(1, "smoke", "b", smoke=False)
    assert world.said_of("r") == [("raised", "b", 1)]
    world.hear(2, "smoke", "b", smoke=True)
    assert world.said_of("r")[1:] == [("raised", "a", 2)]


def test_all_is_every_device_that_was_heard() -> None:
    world = Community(rule("all(smoke, same='room')"))
    world.hear(0, "smoke", "a", smoke=True)
    assert world.said_of("r") == [("raised", "a", 0)]
    world.hear(1, "smoke", "b", temperature=20)
    assert world.said_of("r") == [("raised", "a", 0), ("cleared", "a", 1)]
    world.hear(2, "smoke", "b", smoke=True)
    assert world.said_of("r")[2:] == [("raised", "a", 2), ("raised", "b", 2)]


def test_a_condition_may_be_about_another_kind() -> None:
    said = Community(rule("fire_recall == false and any(smoke, same='unit', kind='smoke')", kind="elevator"))
    for world in (said, Community(rule("fire_recall == false and any(smoke, same='unit')", kind="elevator"))):
        world.hear(0, "elevator", "lift", fire_recall=False)
        world.hear(1, "smoke", "e", smoke=True)
        world.hear(9, "smoke", "e", smoke=False)
        assert world.said_of("r") == [("raised", "lift", 1), ("cleared", "lift", 9)]


def test_a_press_counts_as_long_as_is_said() -> None:
    world = Community(rule("smoke and any(action == 'emergency', kind='button', same='room', within='5m')"))
    world.hear(0, "smoke", "a", smoke=True)
    world.event(10, "button", "bell", action="emergency")
    world.event(60, "button", "bell", action="emergency")
    world.at(1_000)
    assert world.said_of("r") == [("raised", "a", 10), ("cleared", "a", 360)]


def test_a_sensor_in_its_test_does_not_count_until_the_test_is_believed_no_longer() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True, test=True)
    world.hear(1, "smoke", "c", smoke=True)
    world.at(599)
    assert world.said_of("confirmed") == []
    world.at(700)
    assert world.said_of("confirmed") == [("raised", "a", 600), ("raised", "c", 600)]


def test_a_silent_neighbour_keeps_what_it_said_and_nothing_more() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(86_400, "smoke", "c", smoke=True)
    assert [who for _, who, _ in world.said_of("confirmed")] == ["c", "a"]


def test_orders_to_others_are_withheld_with_their_reason() -> None:
    hold = "actions: [{command: hold_door, to: {kind: elevator, same: unit}, args: {seconds: 60}}]"
    world = Community(rule("smoke", hold))
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(1, "elevator", "lift", fire_recall=True)
    world.hear(2, "smoke", "b", smoke=True)
    world.hear(3, "elevator", "lift", fire_recall=False)
    world.hear(4, "smoke", "c", smoke=True)
    world.hear(5, "smoke", "d", smoke=True)
    world.hear(6, "smoke", "shed", smoke=True)
    assert [(each.address, each.reason) for each in world.withheld] == [
        ("c1/elevator/lift", "fire_recall is unknown"),
        ("c1/elevator/lift", "fire_recall is true"),
        ("c1/smoke/d", "no elevator is registered in the same unit"),
        ("c1/smoke/shed", "its unit is unknown"),
    ]
    assert [(order.address, order.alarm_id) for order in world.orders] == [
        ("c1/elevator/lift", world.alarm("r", "c").id)
    ]


def test_one_action_reaches_a_bounded_number_of_devices() -> None:
    many = "".join(f'  - {{id: s{n}, kind: siren, building: "3"}}\n' for n in range(100))
    world = Community(
        rule("smoke", "actions: [{command: sound, to: {kind: siren, same: building}}]"), REGISTRY + many
    )
    world.hear(0, "smoke", "a", smoke=True)
    assert len(world.orders) == 64
    assert [each.reason for each in world.withheld] == ["38 more siren than the 64 that an action reaches"]


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("any(smoke)", "say which, same='room'"),
        ("any(smoke, same='house')", "same is one of building, floor, group, room, site, unit"),
        ("any(smoke, same='room', kind='gateway')", "kind is one of"),
        ("any(action == 'emergency', same='room', kind='button')", "say how long it counts"),
        ("any(activity > 3, same='room', kind='button')", "a person's daily life"),
        ("any(smokee, same='room')", "smoke has no point of this name"),
        ("any(any(smoke, same='room'), same='room')", "a call"),
        ("count(smoke, same='room')", "must be true or false"),
        ("any(smoke, same='room', within='2d')", "must be from 1s to 1d"),
    ],
)
def test_what_makes_no_sense_about_others_is_refused(when: str, reason: str) -> None:
    assert reason in refusal(rule(when))


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("{command: sound, to: {kind: charger, same: group}}", "charger obeys cut_power, restore_power"),
        ("{command: restore_power, to: {kind: charger, same: group}}", "is given by a person only"),
        ("{command: sound, to: {kind: sirens, same: group}}", "siren"),
        ("{command: sound, to: {kind: siren}}", "is missing"),
        ("{command: sound, to: siren}", "must be a mapping"),
        ("{command: sound}", "smoke obeys mute, self_test"),
    ],
)
def test_an_order_that_nobody_there_obeys_is_refused(action: str, reason: str) -> None:
    assert reason in refusal(rule("smoke", f"actions: [{action}]"))


def test_after_a_stop_what_is_long_past_does_not_count_and_what_still_holds_does() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(5, "smoke", "a", smoke=False)
    world.at(10, Listening(on=False, at=T0 + 10_000))
    world.restart()
    world.at(93_600, CatchingUp(on=True, at=T0 + 93_600_000))
    world.hear(93_601, "smoke", "c", smoke=True)
    world.at(93_605, CatchingUp(on=False, at=T0 + 93_605_000))
    assert world.said_of("confirmed") == []
    world.hear(93_610, "smoke", "a", smoke=True)
    assert [who for _, who, _ in world.said_of("confirmed")] == ["a", "c"]


def test_a_set_clock_neither_ends_nor_prolongs_what_counts() -> None:
    world = Community(CONFIRMED)
    world.hear(0, "smoke", "a", smoke=True)
    world.hear(10, "smoke", "a", smoke=False)
    world.at(20, ClockStepped(by_ms=86_400_000, at=T0 + 20_000))
    world.hear(86_400 + 180, "smoke", "c", smoke=True)
    assert world.said_of("confirmed") == [("raised", "c", 86_580)]
    world.hear(86_400 + 200, "smoke", "b", smoke=False)
    value = world.state.devices[at("smoke", "b")].points["count(smoke and (not test), same=floor, within=3m)"]
    assert value == 1


MIXED = (
    CONFIRMED
    + """
  - id: near
    kind: button
    when: any(smoke, same='room', kind='smoke', within='30s')
    severity: medium
    text: {en: near, zh: 近}
  - id: everyone
    kind: smoke
    when: all(smoke and not test, same='room')
    for: 5s
    severity: high
    text: {en: all, zh: 全}
  - id: pressed
    kind: smoke
    when: count(action == 'emergency', kind='button', same='building', within='1m') >= 1
    severity: low
    text: {en: pressed, zh: 按}
"""
)

steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 5.0, 29.0, 60.0, 181.0]),
        st.sampled_from(["a", "b", "c", "d", "bell", "restart"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


def play(story: list[tuple[float, str, bool, bool]], *, restarts: bool) -> Community:
    world = Community(MIXED)
    second = 0.0
    for gap, who, smoke, test in story:
        second += gap
        if who == "restart":
            if restarts:
                world.restart()
            continue
        if who == "bell":
            world.event(second, "button", who, action="emergency" if smoke else "check_in")
        else:
            world.hear(second, "smoke", who, smoke=smoke, test=test)
    world.at(second + 1_000)
    return world


@settings(max_examples=60, deadline=None)
@given(steps)
def test_restarts_change_nothing(story: list[tuple[float, str, bool, bool]]) -> None:
    through, again = play(story, restarts=False), play(story, restarts=True)
    assert again.said == through.said
    assert again.state.alarms == through.state.alarms
    assert [order.id for order in again.orders] == [order.id for order in through.orders]


@settings(max_examples=60, deadline=None)
@given(steps)
def test_counting_equals_looking_at_everybody(story: list[tuple[float, str, bool, bool]]) -> None:
    world = play(story, restarts=False)
    floor = [at("smoke", name) for name in ("a", "b", "c")]
    heard = [world.state.devices[address].points for address in floor if address in world.state.devices]
    holding = sum(points["smoke"] is True and points["test"] is False for points in heard)
    for points in heard:
        assert points["count(smoke and (not test), same=floor, within=3m)"] == holding


def test_a_message_costs_no_more_where_more_devices_stand_elsewhere() -> None:
    more = "".join(
        f'  - {{id: x{n}, kind: smoke, building: "3", unit: "1", floor: "{n % 30 + 1}"}}\n'
        for n in range(900)
    )
    world = Community(CONFIRMED, REGISTRY + more)
    for number in range(900):
        world.hear(number / 1000, "smoke", f"x{number}", smoke=False)
    changed = world.hear(1, "smoke", "a", smoke=True)
    assert [change.alarm.device for change in changed.changes] == ["a"]
    touched = [device for device in world.state.devices.values() if "c1/smoke/x" in device.address]
    assert all(device.points["count(smoke and (not test), same=floor, within=3m)"] == 0 for device in touched)
    assert world.alarm("fire").state is AlarmState.UNACKED
