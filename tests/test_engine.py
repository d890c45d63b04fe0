"""The engine: what a property may rely on, whatever comes and however often it is replayed."""

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Address, Channel, Flag, Reading, Scalar
from rules.alarms import Alarm, AlarmState, Transition
from rules.decisions import Acknowledge, Close, Decision, Input, Listening, time_of
from rules.engine import Engine
from rules.state import State, freeze, thaw
from tests.rule_world import BUTTON, LIFT, PORT, SMOKE, T0, ms, rules

RULES = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    clear: temperature < 55
    for: 10s
    severity: high
    text: {en: "{device} {temperature:.0f}", zh: "{device} {temperature:.0f}"}
  - id: warm
    kind: charger
    when: temperature >= 60
    severity: medium
    text: {en: warm, zh: 热}
  - id: cut
    kind: charger
    when: temperature >= 80 or temperature_rate >= 1
    for: 3s
    severity: critical
    text: {en: cut, zh: 断}
    actions: [{command: cut_power}]
  - id: quiet
    kind: charger
    silent_for: 60s
    severity: low
    text: {en: silent, zh: 失联}
  - id: leak
    kind: charger
    when: leakage > 30
    severity: high
    latch: true
    text: {en: leak, zh: 漏电}
  - id: press
    kind: button
    when: action == 'emergency'
    cancel: action == 'cancel'
    severity: critical
    text: {en: help, zh: 求助}
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and type != 'end'
    clear: type == 'end'
    for: 1s
    severity: medium
    text: {en: "{track}", zh: "{track}"}
    actions: [{command: hold_door, args: {seconds: 60, prompt: out}}]
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
  - id: drill
    kind: smoke
    when: smoke and test
    severity: info
    text: {en: test, zh: 测试}
"""


def engine(text: str = RULES) -> Engine:
    return Engine(rules(text), site="c1", node="gw-1")


class Bench:
    """An engine, its state, and what it has said."""

    def __init__(self, text: str = RULES) -> None:
        self.engine = engine(text)
        self.state = self.engine.new_state()
        self.said: list[tuple[str, str, float]] = []
        self.decisions: list[Decision] = []

    def at(self, second: float, given: Input | None = None) -> Decision:
        now = ms(second)
        before = self.engine.tick(self.state, now)
        after = self.engine.step(self.state, given, now) if given is not None else Decision()
        whole = Decision(
            before.changes + after.changes, before.orders + after.orders, before.withheld + after.withheld
        )
        self.decisions.append(whole)
        self.said += [
            (change.transition.value, change.alarm.rule, (change.at - T0) / 1000) for change in whole.changes
        ]
        return whole

    def hear(self, second: float, address: Address, flags: int = 0, **values: Scalar) -> Decision:
        now = ms(second)
        return self.at(second, Reading(Channel.TELEMETRY, address, values, now, now, flags))

    def event(self, second: float, address: Address, **values: Scalar) -> Decision:
        now = ms(second)
        return self.at(second, Reading(Channel.EVENT, address, values, now, now))

    def alarm(self, rule: str) -> Alarm:
        [found] = [alarm for alarm in self.state.alarms.values() if alarm.rule == rule]
        return found

    def said_of(self, rule: str) -> list[tuple[str, float]]:
        return [(what, when) for what, which, when in self.said if which == rule]


def test_a_delayed_condition_raises_at_its_deadline_although_the_tick_comes_late() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70)
    bench.at(59)
    assert bench.said_of("hot") == [("raised", 10)]
    assert bench.alarm("hot").raised_at == T0 + 10_000
    assert bench.alarm("hot").text["en"] == "p1 70"


def test_a_condition_that_ends_within_its_delay_raises_nothing() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70)
    bench.hear(9, PORT, temperature=64)
    bench.at(58)
    assert bench.said_of("hot") == []


def test_between_the_thresholds_an_alarm_neither_clears_nor_is_raised_again() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70)
    bench.hear(20, PORT, temperature=60)
    bench.hear(25, PORT, temperature=70)
    bench.hear(30, PORT, temperature=54)
    assert bench.said_of("hot") == [("raised", 10), ("cleared", 30)]
    assert bench.alarm("hot").state is AlarmState.RTN_UNACKED


def test_unknown_neither_raises_nor_clears() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=61)
    bench.hear(1, PORT, voltage=220)
    assert bench.said_of("warm") == [("raised", 0)]
    bench.hear(2, Address("c1/charger/p2"), voltage=220)
    assert len(bench.state.alarms) == 1


def test_a_high_alarm_leaves_the_board_only_when_it_is_both_cleared_and_acknowledged() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70)
    bench.at(10)
    alarm_id = bench.alarm("hot").id
    bench.at(11, Acknowledge(alarm_id, "Wang", "on my way", T0 + 11_000))
    assert bench.alarm("hot").state is AlarmState.ACKED
    decision = bench.hear(12, PORT, temperature=40)
    last = [change.alarm for change in decision.changes if change.alarm.rule == "hot"][-1]
    assert (last.state, last.acked_by, last.comment) == (AlarmState.NORMAL, "Wang", "on my way")
    assert "hot:c1/charger/p1" not in bench.state.alarms


def test_a_medium_alarm_leaves_the_board_when_it_clears() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=61)
    bench.hear(1, PORT, temperature=59)
    assert bench.said_of("warm") == [("raised", 0), ("cleared", 1)]
    assert not bench.state.alarms


def test_a_reraise_on_the_board_keeps_its_id_and_a_later_stay_has_a_new_one() -> None:
    bench = Bench()
    bench.hear(0, PORT, leakage=40)
    first = bench.alarm("leak")
    bench.hear(1, PORT, leakage=1)
    bench.at(2, Acknowledge(first.id, "Li", "", T0 + 2_000))
    assert bench.alarm("leak").state is AlarmState.LATCHED_ACKED
    bench.hear(3, PORT, leakage=50)
    again = bench.alarm("leak")
    assert (again.id, again.occurrences, again.state) == (first.id, 2, AlarmState.UNACKED)
    bench.hear(4, PORT, leakage=1)
    bench.at(5, Close(first.id, "Li", "dried", T0 + 5_000))
    assert not bench.state.alarms
    bench.hear(6, PORT, leakage=60)
    assert bench.alarm("leak").id != first.id


def test_versions_count_the_changes_of_one_stay() -> None:
    bench = Bench()
    bench.hear(0, PORT, leakage=40)
    bench.hear(1, PORT, leakage=41)
    bench.hear(2, PORT, leakage=1)
    assert bench.alarm("leak").version == 2


def test_an_active_alarm_of_a_condition_cannot_be_closed_by_a_person() -> None:
    bench = Bench()
    bench.hear(0, PORT, leakage=40)
    decision = bench.at(1, Close(bench.alarm("leak").id, "Li", "", T0 + 1_000))
    assert decision.changes == ()
    assert bench.alarm("leak").active


def test_another_press_counts_and_returns_an_acknowledged_emergency_to_unacked() -> None:
    bench = Bench()
    bench.event(0, BUTTON, action="emergency")
    alarm_id = bench.alarm("press").id
    bench.at(5, Acknowledge(alarm_id, "Wang", "", T0 + 5_000))
    bench.event(9, BUTTON, action="emergency")
    alarm = bench.alarm("press")
    assert (alarm.id, alarm.occurrences, alarm.state) == (alarm_id, 2, AlarmState.UNACKED)


def test_cancel_is_shown_but_closes_nothing_and_a_person_does() -> None:
    bench = Bench()
    bench.event(0, BUTTON, action="emergency")
    bench.event(3, BUTTON, action="cancel")
    alarm = bench.alarm("press")
    assert (alarm.state, alarm.cancelled_at) == (AlarmState.UNACKED, T0 + 3_000)
    bench.event(4, BUTTON, action="check_in")
    assert bench.alarm("press").active
    bench.at(60, Close(alarm.id, "Wang", "spoke to her", T0 + 60_000))
    assert bench.said_of("press") == [("raised", 0), ("changed", 3), ("closed", 60)]


def test_each_track_has_its_own_alarm_and_its_updates_are_not_occurrences() -> None:
    bench = Bench()
    for second in range(4):
        bench.event(second, LIFT, type="update", track="a", label="ebike", score=0.9)
    bench.event(4, LIFT, type="new", track="b", label="ebike", score=0.9)
    bench.event(6, LIFT, type="end", track="a", label="ebike")
    assert bench.said_of("ebike") == [("raised", 1), ("raised", 5), ("cleared", 6)]
    assert bench.alarm("ebike").key == "ebike:c1/elevator/l1/b"
    assert bench.alarm("ebike").occurrences == 1


def test_the_door_is_held_only_where_fire_recall_is_known_to_be_off() -> None:
    for recall, orders in ((None, 0), (True, 0), (False, 1)):
        bench = Bench()
        if recall is not None:
            bench.hear(0, LIFT, fire_recall=recall)
        bench.event(1, LIFT, type="new", track="a", label="ebike", score=0.9)
        decision = bench.at(2)
        assert len(decision.orders) == orders, recall
        assert len(decision.withheld) == 1 - orders, recall


def test_an_order_is_given_with_the_alarm_once_and_expires() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=85)
    bench.hear(1, PORT, temperature=86)
    bench.hear(4, PORT, temperature=87)
    orders = [order for decision in bench.decisions for order in decision.orders]
    assert [(order.command, order.issued_at, order.expires_at) for order in orders] == [
        ("cut_power", T0 + 3_000, T0 + 63_000)
    ]


def test_a_steep_rise_is_seen_before_any_threshold() -> None:
    bench = Bench()
    for second in range(6):
        bench.hear(second, PORT, temperature=30 + 1.5 * second)
    assert bench.said_of("cut") == [("raised", 4)]


def test_a_device_clock_that_stands_still_does_not_hide_a_steep_rise() -> None:
    bench = Bench()
    for second in range(6):
        now = T0 + second * 1000
        bench.at(second, Reading(Channel.TELEMETRY, PORT, {"temperature": 30 + 2.0 * second}, T0, now))
    assert bench.said_of("cut") == [("raised", 4)]


def test_a_test_is_not_a_fire_for_ten_minutes_and_then_it_is() -> None:
    bench = Bench()
    bench.hear(0, SMOKE, test=True)
    bench.hear(1, SMOKE, smoke=True)
    assert bench.said == [("raised", "drill", 1)]
    bench.hear(300, SMOKE, smoke=True, test=True)
    bench.at(599)
    assert bench.said_of("fire") == []
    bench.at(700)
    assert bench.said_of("fire") == [("raised", 600)]
    assert bench.said_of("drill") == [("raised", 1), ("cleared", 600)]


def test_a_test_pressed_during_a_fire_does_not_end_it() -> None:
    bench = Bench()
    bench.hear(0, SMOKE, smoke=True)
    bench.hear(5, SMOKE, test=True)
    assert bench.said_of("fire") == [("raised", 0)]
    assert bench.alarm("fire").active


def test_a_sensor_that_never_spoke_of_tests_still_alarms() -> None:
    bench = Bench()
    bench.hear(0, SMOKE, smoke=True, muted=True)
    assert bench.said_of("fire") == [("raised", 0)]


def test_old_news_neither_starts_nor_ends_an_alarm() -> None:
    bench = Bench()
    bench.hear(0, SMOKE, flags=Flag.RETAINED, smoke=True)
    assert bench.said == []
    bench.hear(1, SMOKE, smoke=True)
    bench.hear(2, SMOKE, flags=Flag.RETAINED, smoke=False)
    assert bench.said == [("raised", "fire", 1)]


def test_silence_never_clears_an_alarm() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70)
    bench.at(10)
    bench.at(3600)
    assert bench.said_of("hot") == [("raised", 10)]
    assert bench.said_of("quiet") == [("raised", 60)]


def test_a_silent_device_that_speaks_again_ends_its_silence() -> None:
    bench = Bench()
    bench.hear(0, PORT, voltage=220)
    bench.hear(30, PORT, voltage=220)
    bench.at(89.999)
    assert bench.said == []
    bench.at(200)
    bench.hear(201, PORT, voltage=220)
    bench.at(261)
    assert bench.said_of("quiet") == [("raised", 90), ("cleared", 201), ("raised", 261)]


def test_silence_does_not_count_while_the_gateway_is_deaf() -> None:
    bench = Bench()
    bench.hear(0, PORT, voltage=220)
    bench.at(30, Listening(on=False, at=T0 + 30_000))
    bench.at(3_000, Listening(on=True, at=T0 + 3_000_000))
    bench.at(3_059)
    assert bench.said == []
    bench.at(3_061)
    assert bench.said_of("quiet") == [("raised", 3_060)]


def test_silences_of_several_lengths_live_side_by_side_and_leave_nothing_behind() -> None:
    longer = "  - id: quieter\n    kind: charger\n    silent_for: 300s\n    severity: high\n    text: {en: s, zh: s}\n"
    bench = Bench(RULES + longer)
    for round_ in range(50):
        bench.hear(round_ * 100, PORT, voltage=220)
    assert len(bench.state.deadlines) <= 4
    bench.at(5_000)
    bench.engine.derive_deadlines(bench.state)
    bench.at(6_000)
    assert bench.said_of("quieter") == [("raised", 5_200)]


def test_a_silence_that_a_person_closed_is_not_raised_again_until_the_device_speaks() -> None:
    bench = Bench()
    bench.hear(0, PORT, voltage=220)
    bench.at(60)
    bench.at(70, Close(bench.alarm("quiet").id, "Li", "taken away", T0 + 70_000))
    bench.at(80, Listening(on=False, at=T0 + 80_000))
    bench.at(90, Listening(on=True, at=T0 + 90_000))
    bench.at(900)
    assert bench.said_of("quiet") == [("raised", 60), ("closed", 70)]


def test_a_camera_that_ends_no_track_does_not_fill_the_board() -> None:
    bench = Bench()
    for number in range(500):
        bench.event(number, LIFT, type="new", track=f"t{number}", label="ebike", score=0.9)
    assert len(bench.state.alarms) <= 64
    assert bench.state.tracks_refused > 400


def test_a_will_is_not_a_sign_of_life() -> None:
    bench = Bench()
    bench.hear(0, PORT, voltage=220)
    now = T0 + 50_000
    bench.at(50, Reading(Channel.STATUS, PORT, {"state": "offline"}, now, now))
    bench.at(61)
    assert bench.said_of("quiet") == [("raised", 60)]
    assert bench.state.devices[PORT].online is False


def test_beyond_the_limit_strangers_are_counted_but_smoke_and_presses_are_heard() -> None:
    small = Engine(rules(RULES), site="c1", node="gw-1", unregistered_max=1)
    state = small.new_state()

    def say(address: str, channel: Channel, **values: Scalar) -> Decision:
        reading = Reading(channel, Address(address), values, T0, T0, int(Flag.UNREGISTERED))
        return small.step(state, reading, T0)

    say("c1/charger/a", Channel.TELEMETRY, temperature=61)
    assert say("c1/charger/b", Channel.TELEMETRY, temperature=90).changes == ()
    assert state.refused == 1
    assert say("c1/smoke/c", Channel.TELEMETRY, smoke=True).changes != ()
    assert say("c1/button/d", Channel.EVENT, action="emergency").changes != ()


# Properties

addresses = st.sampled_from([PORT, Address("c1/charger/p2"), BUTTON, LIFT, SMOKE])


def readings_of(
    address: Address, gap: int
) -> st.SearchStrategy[tuple[int, Channel, Address, dict[str, Scalar]]]:
    kind = address.split("/")[1]
    values: st.SearchStrategy[dict[str, Scalar]]
    channel = Channel.TELEMETRY
    if kind == "charger":
        values = st.fixed_dictionaries(
            {}, optional={"temperature": st.integers(20, 95), "leakage": st.sampled_from([0, 40])}
        )
    elif kind == "smoke":
        values = st.fixed_dictionaries({}, optional={"smoke": st.booleans(), "test": st.booleans()})
    elif kind == "button":
        channel = Channel.EVENT
        values = st.fixed_dictionaries({"action": st.sampled_from(["emergency", "cancel", "test"])})
    else:
        channel = Channel.EVENT
        values = st.fixed_dictionaries(
            {
                "type": st.sampled_from(["new", "update", "end"]),
                "track": st.sampled_from(["a", "b"]),
                "label": st.sampled_from(["ebike", "person"]),
                "score": st.just(0.9),
            }
        )
    return values.map(lambda found: (gap, channel, address, found))


heard = st.tuples(addresses, st.sampled_from([0, 1, 500, 3_000, 10_000, 61_000])).flatmap(
    lambda found: readings_of(*found)
)
person = st.tuples(
    st.sampled_from([0, 700]), st.sampled_from(["ack", "close", "deaf", "hear"]), st.integers(0, 5)
)
histories = st.lists(st.one_of(heard, person), max_size=40)


def play(
    machine: Engine, state: State, steps: Sequence[tuple[object, ...]], now: int
) -> tuple[list[Input], list[Decision], int]:
    """Turn steps into inputs, choosing alarms to act on from the board, and fold them."""
    inputs: list[Input] = []
    decisions = []
    for step in steps:
        now += int(str(step[0]))
        given: Input
        if isinstance(step[1], Channel):
            _, channel, address, values = step
            assert isinstance(values, dict)
            assert isinstance(channel, Channel)
            given = Reading(channel, Address(str(address)), values, now, now)
        elif step[1] in ("ack", "close"):
            board = sorted(state.keys)
            alarm_id = board[int(str(step[2])) % len(board)] if board else "none"
            given = Acknowledge(alarm_id, "p", "", now) if step[1] == "ack" else Close(alarm_id, "p", "", now)
        else:
            given = Listening(step[1] == "hear", now)
        inputs.append(given)
        decisions.append(machine.step(state, given, now))
    return inputs, decisions, now


def told(decisions: Sequence[Decision]) -> list[bytes]:
    return [change.alarm.wire() for decision in decisions for change in decision.changes]


@settings(max_examples=150, deadline=None)
@given(histories, st.integers(0, 40))
def test_replaying_a_prefix_and_continuing_equals_running_through(
    steps: list[tuple[object, ...]], cut: int
) -> None:
    through = engine()
    inputs, decisions, end = play(through, whole := through.new_state(), steps, T0)
    decisions.append(through.tick(whole, end + 700_000))

    first = engine()
    state = first.new_state()
    again = [first.step(state, given_, time_of(given_)) for given_ in inputs[:cut]]
    header, devices = freeze(state)
    second = engine()
    state = thaw(header, devices)
    second.derive_deadlines(state)
    again += [second.step(state, given_, time_of(given_)) for given_ in inputs[cut:]]
    again.append(second.tick(state, end + 700_000))
    assert told(again) == told(decisions)
    assert [order.id for each in again for order in each.orders] == [
        order.id for each in decisions for order in each.orders
    ]
    assert state.alarms == whole.alarms


@settings(max_examples=150, deadline=None)
@given(histories, st.lists(st.integers(1, 5_000), max_size=30))
def test_the_times_of_ticks_change_nothing(steps: list[tuple[object, ...]], ticks: list[int]) -> None:
    plain = engine()
    inputs, decisions, end = play(plain, plain_state := plain.new_state(), steps, T0)
    decisions.append(plain.tick(plain_state, end + 700_000))
    ticked = engine()
    state = ticked.new_state()
    again: list[Decision] = []
    now = T0
    for given_ in inputs:
        again += [ticked.tick(state, now + tick) for tick in ticks if now + tick < time_of(given_)]
        now = time_of(given_)
        again.append(ticked.step(state, given_, now))
    again.append(ticked.tick(state, end + 700_000))
    assert told(again) == told(decisions)


@settings(max_examples=150, deadline=None)
@given(histories)
def test_every_alarm_has_an_orderly_life(steps: list[tuple[object, ...]]) -> None:
    machine = engine()
    _, decisions, end = play(machine, state := machine.new_state(), steps, T0)
    decisions.append(machine.tick(state, end + 700_000))
    lives: dict[str, Alarm] = {}
    ended: set[str] = set()
    for decision in decisions:
        for change in decision.changes:
            alarm = change.alarm
            before = lives.get(alarm.id)
            assert alarm.id not in ended
            if before is None:
                assert (change.transition, alarm.version, alarm.occurrences) == (Transition.RAISED, 1, 1)
            else:
                assert alarm.version == before.version + 1
                assert alarm.key == before.key
                assert alarm.occurrences == before.occurrences + (change.transition is Transition.RERAISED)
                assert alarm.state is not before.state or change.transition in (
                    Transition.RERAISED,
                    Transition.CHANGED,
                )
            if not alarm.on_board:
                ended.add(alarm.id)
            lives[alarm.id] = alarm
    assert {alarm.id for alarm in state.alarms.values()} == lives.keys() - ended


def test_a_state_survives_its_snapshot() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70, leakage=40)
    bench.event(1, LIFT, type="new", track="a", label="ebike", score=0.9)
    bench.hear(2, SMOKE, smoke=True, test=True)
    header, devices = freeze(bench.state)
    state = thaw(header, devices)
    assert state.devices == bench.state.devices
    assert state.alarms == bench.state.alarms
    bench.engine.derive_deadlines(state)
    assert set(bench.state.deadlines) >= set(state.deadlines)


def test_a_sensor_of_which_only_an_alarm_is_known_still_raises_smoke() -> None:
    bench, again = Bench(), Bench()
    bench.hear(0, SMOKE, smoke=True, test=True)
    again.engine.adopt(again.state, [bench.alarm("drill")])
    told = again.hear(1, SMOKE, smoke=True).changes
    assert [(change.alarm.rule, change.transition) for change in told] == [
        ("fire", "raised"),
        ("drill", "cleared"),
    ]


def test_under_changed_rules_standing_alarms_stay_and_delays_begin_anew() -> None:
    bench = Bench()
    bench.hear(0, PORT, temperature=70, leakage=40)
    facts = list(bench.state.alarms.values())
    changed = Engine(
        rules(RULES.replace("id: leak", "id: leak-2")),
        site="c1",
        node="gw-1",
    )
    state = changed.new_state()
    now = T0 + 5_000
    reading = Reading(Channel.TELEMETRY, PORT, {"temperature": 70, "leakage": 40}, T0, T0)
    changed.learn(state, reading)
    changed.adopt(state, facts)
    decision = changed.rejudge(state, now)
    assert [(c.transition.value, c.alarm.rule) for c in decision.changes] == [("raised", "leak-2")]
    assert {alarm.rule for alarm in state.alarms.values()} == {"warm", "leak", "leak-2"}
    later = changed.tick(state, now + 10_000)
    assert [(c.alarm.rule, c.at) for c in later.changes] == [("hot", now + 10_000)]
    removed = next(alarm for alarm in facts if alarm.rule == "leak")
    closed = changed.step(state, Close(removed.id, "p", "", now + 11_000), now + 11_000)
    assert [c.transition for c in closed.changes] == [Transition.CLOSED]


def test_the_wire_form_is_the_contract_s() -> None:
    bench = Bench()
    bench.hear(0, SMOKE, smoke=True, density=0.31)
    wire = msgspec.json.decode(bench.alarm("fire").wire())
    assert wire["key"] == "fire:c1/smoke/s1"
    assert wire["values"] == {"test": False, "smoke": True, "density": 0.31}
    assert wire["raised_at"] == "2026-09-21T14:13:20.000Z"
    assert {"id", "rule", "severity", "state", "version", "occurrences", "site", "node", "kind", "device",
            "place", "text", "source_time", "received_at", "first_raised_at", "cleared_at", "acked_at",
            "acked_by", "late", "drill", "durable"} <= wire.keys()  # fmt: skip
    assert len(wire["id"]) == 26
