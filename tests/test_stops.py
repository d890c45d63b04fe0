"""Stops: what happens to delays and silences while the gateway does not hear, and when it hears again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Address, Channel, Flag, Reading, Scalar, address_of
from edge.checking import load_rules
from edge.mqtt.link import SESSION_EXPIRY_S
from edge.settings import Config
from rules.alarms import Alarm, AlarmChange, AlarmState, Transition
from rules.backlog import WAITED_MOST_MS
from rules.decisions import CatchingUp, Decision, Input, Listening, Order, time_of
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.state import State, freeze, thaw
from tests.rule_world import BUTTON, LIFT, PORT, SMOKE, T0, ms, rules

HOUR = 3_600

RULES = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    clear: temperature < 55
    for: 10s
    severity: high
    text: {en: "{temperature:.0f}", zh: "{temperature:.0f}"}
    actions: [{command: cut_power}]
  - id: leak
    kind: charger
    when: leakage > 30
    for: 10s
    severity: low
    text: {en: leak, zh: 漏电}
  - id: runaway
    kind: charger
    when: temperature_rate >= 1
    severity: critical
    text: {en: rate, zh: 升温}
  - id: quiet
    kind: charger
    silent_for: 60s
    severity: low
    text: {en: silent, zh: 失联}
  - id: held
    kind: elevator
    when: blocking
    for: 2m
    severity: high
    text: {en: held, zh: 挡门}
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and type != 'end'
    clear: type == 'end'
    for: 1s
    severity: medium
    text: {en: ebike, zh: 电动车}
    actions: [{command: hold_door, args: {seconds: 60, prompt: out}}]
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
  - id: help
    kind: button
    when: action == 'emergency'
    severity: critical
    text: {en: help, zh: 求助}
    actions: [{command: confirm}]
"""


class Site:
    """An engine, its clock in seconds after T0, and what it has said."""

    def __init__(self, force: RuleSet | None = None) -> None:
        self.engine = Engine(force or rules(RULES), site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.changes: list[AlarmChange] = []
        self.orders: list[Order] = []

    def tell(self, given: Input) -> Decision:
        return self._took(self.engine.step(self.state, given, time_of(given)))

    def at(self, second: float) -> None:
        self._took(self.engine.tick(self.state, ms(second)))

    def hear(self, second: float, address: Address, told: float | None = None, **values: Scalar) -> None:
        """Something arrives at ``second``; ``told`` is when the device says that it was so."""
        so = ms(second if told is None else told)
        channel = Channel.EVENT if values.keys() & {"action", "track"} else Channel.TELEMETRY
        self.tell(Reading(channel, address, dict(values), so, ms(second)))

    def doubted(self, second: float, address: Address, **values: Scalar) -> None:
        """As `hear`, with a time that is not believed."""
        now = ms(second)
        self.tell(Reading(Channel.TELEMETRY, address, dict(values), now, now, Flag.CLOCK_DOUBTED, None, 1))

    def stop(self, second: float) -> None:
        self.tell(Listening(on=False, at=ms(second)))
        self.tell(CatchingUp(on=True, at=ms(second)))

    def back(self, second: float) -> None:
        """The sessions are up again; the backlog follows."""
        self.at(second)
        self.tell(Listening(on=True, at=ms(second)))

    def caught_up(self, second: float) -> None:
        self.tell(CatchingUp(on=False, at=ms(second)))

    def said_of(self, rule: str) -> list[tuple[str, float, bool]]:
        """Transition, second, late."""
        return [
            (change.transition.value, (change.at - T0) / 1000, change.alarm.late)
            for change in self.changes
            if change.alarm.rule == rule
        ]

    def alarm(self, rule: str) -> Alarm:
        [found] = [alarm for alarm in self.state.alarms.values() if alarm.rule == rule]
        return found

    def _took(self, decision: Decision) -> Decision:
        self.changes += decision.changes
        self.orders += decision.orders
        return decision


LOW = """
rules:
  - id: low
    kind: smoke
    when: battery_low
    for: 23d
    severity: low
    text: {en: low, zh: 低}
"""
DAY = 86_400


def test_what_waited_may_be_a_week_old_but_not_older() -> None:
    assert WAITED_MOST_MS == SESSION_EXPIRY_S * 1_000
    site = Site(rules(LOW))
    site.stop(0)
    site.back(HOUR)
    site.hear(HOUR, SMOKE, battery_low=True)
    site.caught_up(HOUR + 1)
    site.at(16 * DAY + HOUR - 1)
    assert site.said_of("low") == []
    site.at(20 * DAY)
    assert site.said_of("low") == [("raised", 16 * DAY + HOUR, False)]


def stopped(temperature: float = 70) -> Site:
    """Hot since 0 s, delay until 10 s, away from 5 s, back after an hour."""
    site = Site()
    site.hear(0, PORT, temperature=temperature)
    site.stop(5)
    site.back(HOUR)
    return site


def test_a_delay_that_ran_out_in_a_stop_waits_for_the_backlog_and_is_then_raised_late() -> None:
    site = stopped()
    site.at(HOUR + 9)
    assert site.said_of("hot") == []
    site.caught_up(HOUR + 9)
    assert site.said_of("hot") == [("raised", 10, True)]


def test_what_ended_in_time_by_the_device_s_own_time_is_no_alarm() -> None:
    site = stopped()
    site.hear(HOUR + 0.1, PORT, told=9.9, temperature=40)
    site.caught_up(HOUR + 1)
    assert site.said_of("hot") == []


def test_what_ended_too_late_is_raised_with_what_was_so_then_cleared_and_waits_for_a_person() -> None:
    site = stopped()
    site.hear(HOUR + 0.1, PORT, told=10, temperature=40)
    site.caught_up(HOUR + 1)
    assert site.said_of("hot") == [("raised", 10, True), ("cleared", HOUR + 0.1, True)]
    assert site.alarm("hot").state is AlarmState.RTN_UNACKED
    assert site.changes[0].alarm.text["en"] == "70 (late: so at 14:13)"
    assert site.changes[0].alarm.source_time == T0
    assert site.orders == []  # it is over: nothing is switched off any more


@pytest.mark.parametrize("doubted", [False, True], ids=["no time", "time not believed"])
def test_where_nobody_knows_when_it_ended_it_is_raised_late(doubted: bool) -> None:
    site = stopped()
    if doubted:
        site.doubted(HOUR + 0.1, PORT, temperature=40)
    else:
        site.hear(HOUR + 0.1, PORT, temperature=40)
    assert site.said_of("hot") == [("raised", 10, True), ("cleared", HOUR + 0.1, True)]


def test_a_constant_error_of_the_device_s_clock_changes_no_verdict() -> None:
    for lasted, alarms in ((9.9, 0), (10.0, 1)):
        site = Site()
        site.hear(0, PORT, told=-1_800, temperature=70)
        site.stop(5)
        site.back(HOUR)
        site.hear(HOUR + 0.1, PORT, told=-1_800 + lasted, temperature=60)
        site.caught_up(HOUR + 1)
        assert len(site.said_of("hot")) == alarms, lasted  # 60 is inside the deadband: it stands


def test_a_device_clock_that_goes_back_proves_nothing() -> None:
    site = stopped()
    site.hear(HOUR + 0.1, PORT, told=-60, temperature=40)
    assert site.said_of("hot")[0] == ("raised", 10, True)


def test_what_began_and_lasted_in_the_stop_counts_from_its_own_time() -> None:
    site = Site()
    site.hear(0, PORT, temperature=30)
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, PORT, told=100, temperature=90)
    site.hear(HOUR + 0.1, PORT, told=109, temperature=50)
    site.hear(HOUR + 0.1, PORT, told=200, temperature=90)
    site.hear(HOUR + 0.1, PORT, told=211, temperature=50)
    site.hear(HOUR + 0.1, PORT, told=HOUR - 30, temperature=90)
    site.caught_up(HOUR + 1)
    assert site.said_of("hot") == [
        ("raised", 210, True),
        ("cleared", HOUR + 0.1, True),
        ("reraised", HOUR - 20, True),
    ]


def test_a_fire_that_began_and_burnt_out_unseen_without_a_believed_time_is_told() -> None:
    site = Site()
    site.hear(0, PORT, temperature=30)
    site.stop(5)
    site.back(26 * HOUR)
    for temperature in (90, 150, 20):
        site.doubted(26 * HOUR + 0.1, PORT, temperature=temperature)
    assert [what for what, _, late in site.said_of("hot") if late] == ["raised", "cleared"]
    assert site.alarm("hot").state is AlarmState.RTN_UNACKED


def test_a_backlog_without_times_tells_the_same_alarm_only_once() -> None:
    site = Site()
    site.stop(5)
    site.back(HOUR)
    for _ in range(50):
        site.doubted(HOUR + 0.1, PORT, leakage=40)
        site.doubted(HOUR + 0.1, PORT, leakage=0)
    assert len(site.said_of("leak")) == 2
    site.doubted(HOUR + 0.2, PORT, leakage=40)
    site.caught_up(HOUR + 1)
    assert len(site.said_of("leak")) == 3  # it stands now, so it is told again


def test_a_live_condition_begun_while_catching_up_is_raised_at_its_time_and_not_called_late() -> None:
    site = Site()
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.05, PORT, told=HOUR + 0.04, temperature=70)
    site.caught_up(HOUR + 0.6)
    site.at(HOUR + 60)
    assert site.said_of("hot") == [("raised", HOUR + 10.04, False)]
    assert [order.command for order in site.orders] == ["cut_power"]


def test_what_needs_no_delay_is_raised_at_once_and_called_late_if_it_had_waited() -> None:
    site = Site()
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, BUTTON, told=600, action="emergency")
    assert site.said_of("help") == [("raised", HOUR + 0.1, True)]
    assert [order.command for order in site.orders] == ["confirm"]
    site.hear(HOUR + 0.2, BUTTON, told=HOUR + 0.1, action="emergency")
    site.hear(HOUR + 0.3, BUTTON, action="emergency")  # without a time it is not made to look old
    assert [late for _, _, late in site.said_of("help")[1:]] == [False, False]


def test_a_late_alarm_that_still_holds_gives_its_orders_when_all_is_heard_and_only_once() -> None:
    site = stopped(90)
    site.hear(HOUR + 0.1, PORT, told=600, temperature=95)
    assert site.said_of("hot") == [("raised", 10, True)]
    assert site.orders == []
    site.caught_up(HOUR + 1)
    site.stop(HOUR + 2)
    site.back(HOUR + 3)
    site.caught_up(HOUR + 4)
    assert [(order.command, order.issued_at) for order in site.orders] == [("cut_power", ms(HOUR + 1))]


def test_a_door_is_not_held_for_an_e_bike_of_before_the_stop() -> None:
    site = Site()
    site.hear(0, LIFT, fire_recall=False)
    site.hear(1, LIFT, type="new", track="a", label="ebike", score=0.9)
    site.stop(1.5)
    site.back(HOUR)
    decision = site.tell(CatchingUp(on=False, at=ms(HOUR + 1)))
    assert site.said_of("ebike") == [("raised", 2, True)]
    assert [(each.command, each.reason) for each in decision.withheld] == [
        ("hold_door", "fire_recall is unknown")
    ]


def test_an_event_does_not_judge_what_the_other_lane_has_still_to_tell() -> None:
    site = Site()
    site.hear(0, LIFT, blocking=True)
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, LIFT, told=900, type="new", track="a", label="person", score=0.9)
    site.hear(HOUR + 0.2, LIFT, told=30, blocking=False)
    site.caught_up(HOUR + 1)
    assert site.said_of("held") == []


def test_a_sign_of_life_judges_nothing() -> None:
    site = stopped()
    now = ms(HOUR + 0.1)
    site.tell(Reading(Channel.STATUS, PORT, {"state": "online"}, now, now))
    site.hear(HOUR + 0.2, PORT, told=6, temperature=40)
    site.caught_up(HOUR + 1)
    assert site.said_of("hot") == []


def test_a_test_that_ran_out_in_the_stop_does_not_hide_a_fire() -> None:
    site = Site()
    site.hear(0, SMOKE, test=True, smoke=False)
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, SMOKE, smoke=True)
    assert site.said_of("fire") == [("raised", HOUR + 0.1, False)]


def test_smoke_that_still_stands_after_its_test_is_fire() -> None:
    site = Site()
    site.hear(0, SMOKE, test=True, smoke=True)
    site.stop(5)
    site.back(HOUR)
    assert site.said_of("fire") == []
    site.caught_up(HOUR + 1)
    assert site.said_of("fire") == [("raised", 600, True)]


def test_a_test_that_ended_in_the_stop_is_no_fire() -> None:
    site = Site()
    site.hear(0, SMOKE, test=True, smoke=True)
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, SMOKE, told=25, smoke=False)
    site.hear(HOUR + 0.1, SMOKE, told=30, test=False)
    site.caught_up(HOUR + 1)
    assert site.said_of("fire") == []


def test_a_whole_test_in_the_backlog_is_no_fire_and_a_stuck_one_is_by_its_own_time() -> None:
    site = Site()
    site.stop(5)
    site.back(HOUR)
    site.hear(HOUR + 0.1, SMOKE, told=100, test=True, smoke=True)
    site.hear(HOUR + 0.1, SMOKE, told=130, test=False, smoke=False)
    site.hear(HOUR + 0.1, SMOKE, told=2_000, test=True, smoke=True)
    assert site.said_of("fire") == []
    site.caught_up(HOUR + 1)
    assert site.said_of("fire") == [("raised", 2_600, True)]


def test_a_backlog_s_haste_is_no_steep_rise() -> None:
    for doubted in (False, True):
        site = Site()
        site.hear(0, PORT, temperature=20)
        site.stop(5)
        site.back(HOUR)
        for number in range(10):
            at = HOUR + number  # a slow disk: a second between any two
            if doubted:
                site.doubted(at, PORT, temperature=20 + 5 * number)
            else:
                site.hear(at, PORT, told=1_000 + 30 * number, temperature=20 + 5 * number)
        site.caught_up(HOUR + 10)
        site.hear(HOUR + 11, PORT, temperature=30)
        assert site.said_of("runaway") == []


def test_a_steep_rise_in_the_backlog_is_seen_by_its_own_times() -> None:
    site = Site()
    site.stop(5)
    site.back(HOUR)
    for number in range(3):
        site.hear(HOUR + 0.1, PORT, told=1_000 + number, temperature=20 + 2 * number)
    assert site.said_of("runaway") == [("raised", HOUR + 0.1, True)]


def test_without_a_broker_a_delay_is_raised_all_the_same() -> None:
    site = Site()
    site.hear(0, PORT, temperature=70)
    site.stop(5)
    site.caught_up(35)  # the node's patience
    assert site.said_of("hot") == [("raised", 10, True)]


def test_the_gateway_s_own_deadlines_wait_for_no_broker() -> None:
    own = """
rules:
  - id: behind
    kind: gateway
    when: cloud_behind > 5
    for: 10s
    severity: low
    text: {en: behind, zh: 落后}
"""
    site = Site(rules(own))
    site.stop(0)
    site.hear(1, Address("c1/gateway/gw-1"), cloud_behind=9)
    site.at(20)
    assert site.said_of("behind") == [("raised", 11, False)]


def test_a_state_in_the_middle_of_catching_up_survives_its_snapshot() -> None:
    site = stopped(90)
    site.hear(HOUR + 0.1, PORT, told=600, temperature=95)
    header, devices = freeze(site.state)
    site.state = thaw(header, devices)
    site.engine.derive_deadlines(site.state)
    site.caught_up(HOUR + 1)
    assert len(site.said_of("hot")) == 1
    assert len(site.orders) == 1


def test_after_26_hours_8_000_devices_raise_no_storm_and_no_fire_is_forgotten() -> None:
    site = Site(load_rules(Config()))
    kinds = ("charger", "smoke", "button", "elevator")
    fleet = [address_of("c1", kinds[number % 4], f"d{number}") for number in range(8_000)]
    word: dict[str, dict[str, Scalar]] = {
        "charger": {"voltage": 230.0},
        "smoke": {"smoke": False},
        "button": {"battery": 90.0},
        "elevator": {"stream": "ok"},
    }
    for number, address in enumerate(fleet):
        site.hear(number / 1_000, address, None, **word[address.split("/")[1]])
    standing, waiting, running, over = fleet[1], fleet[5], fleet[0], fleet[4]
    site.hear(9, standing, smoke=True)
    site.hear(9, running, temperature=70.0)
    site.hear(9, over, temperature=70.0)
    site.stop(10)
    on_board = dict(site.state.alarms)
    assert [alarm.rule for alarm in on_board.values()] == ["smoke-alarm"]

    again = 26 * HOUR
    site.back(again)
    assert site.state.alarms == on_board
    site.hear(again + 0.1, waiting, told=again - 600, smoke=True)
    site.hear(again + 0.1, over, told=12, temperature=40.0)
    site.caught_up(again + 1)
    assert sorted((alarm.rule, alarm.device, alarm.late) for alarm in site.state.alarms.values()) == [
        ("charger-hot", "d0", True),
        ("charger-warm", "d0", True),
        ("smoke-alarm", "d1", False),
        ("smoke-alarm", "d5", True),
    ]

    speaking = [address for address in fleet if address.split("/")[1] == "charger"]
    for minute in range(0, 10, 4):
        for address in speaking:
            site.hear(again + 60 * minute + 2, address, power=100.0)
    site.at(again + 599)
    assert not [change for change in site.changes if "silent" in change.alarm.rule]
    site.at(again + 600)
    told = [change.alarm for change in site.changes if change.alarm.rule == "elevator-silent"]
    silent = {alarm.address for alarm in told if alarm.members is None}
    assert len([alarm for alarm in told if alarm.annunciated]) < 10
    assert silent == {address for address in fleet if address.split("/")[1] == "elevator"}
    assert not [change for change in site.changes if change.alarm.rule == "charger-silent"]


# Properties


@dataclass
class Told:
    """A history of one port as it really was, and how it reached the gateway."""

    inputs: list[Input] = field(default_factory=list)
    spells: list[list[int]] = field(default_factory=list)
    """From the first hot reading to the first cool one, by event time; the last may be open."""
    stopped: int = 0


@st.composite
def histories(draw: st.DrawFn, *, timed: bool = True) -> Told:
    """Readings about every few seconds; while the gateway is away they wait, then they come at once."""
    told = Told()
    now = T0
    waiting: list[tuple[int, int]] = []
    away = False
    for _ in range(draw(st.integers(1, 25))):
        now += draw(st.sampled_from([1, 700, 4_000, 9_999, 10_000, 10_001, 30_000]))
        step = draw(st.sampled_from(["hot", "cool", "between", "hot", "cool", "stop", "back", "glimpse"]))
        if step in ("hot", "cool", "between"):
            temperature = {"hot": 70, "cool": 40, "between": 60}[step]
            _spell(told, temperature, now)
            if away:
                waiting.append((temperature, now))
            else:
                told.inputs.append(_reading(temperature, now - 1, now + 1, timed=timed))
                now += 1
        elif step == "stop" and not away:
            away = True
            told.inputs += [Listening(on=False, at=now), CatchingUp(on=True, at=now)]
        elif step in ("back", "glimpse") and away:
            now = _back(draw, told, waiting, now, whole=step == "back", timed=timed)
            away = step == "glimpse"
    if away:
        now = _back(draw, told, waiting, now, whole=True, timed=timed)
    told.stopped = now
    return told


def _back(
    draw: st.DrawFn, told: Told, waiting: list[tuple[int, int]], now: int, *, whole: bool, timed: bool
) -> int:
    """The sessions come up and bring all of the backlog, or some of it before they are lost again."""
    told.inputs.append(Listening(on=True, at=now))
    part = len(waiting) if whole else draw(st.integers(0, len(waiting)))
    for temperature, so in waiting[:part]:
        now += draw(st.sampled_from([0, 1, 300]))
        told.inputs.append(_reading(temperature, so - 1, max(now, so + 1), timed=timed))
    del waiting[:part]
    now += 2
    if whole:
        told.inputs.append(CatchingUp(on=False, at=now + 500))
        return now + 501
    told.inputs.append(Listening(on=False, at=now))
    return now


def _reading(temperature: int, so: int, now: int, *, timed: bool) -> Reading:
    return Reading(Channel.TELEMETRY, PORT, {"temperature": temperature}, so if timed else now, now)


def _spell(told: Told, temperature: int, so: int) -> None:
    is_open = told.spells and len(told.spells[-1]) == 1
    if temperature >= 65 and not is_open:
        told.spells.append([so])
    elif temperature < 65 and is_open:
        told.spells[-1].append(so)


ONLY_HOT = rules(RULES[: RULES.index("  - id: leak")])


def run_through(told: Told) -> tuple[Site, list[Decision]]:
    site = Site(ONLY_HOT)
    decisions = [site.tell(given_) for given_ in told.inputs]
    site.at((told.stopped - T0) / 1000 + 60)
    return site, decisions


@settings(max_examples=250, deadline=None)
@given(histories(), st.integers(0, 60))
def test_replaying_a_prefix_over_stops_and_continuing_equals_running_through(told: Told, cut: int) -> None:
    through, _ = run_through(told)
    again = Site(ONLY_HOT)
    for given_ in told.inputs[:cut]:
        again.tell(given_)
    again.state = _revived(again)
    for given_ in told.inputs[cut:]:
        again.tell(given_)
    again.at((told.stopped - T0) / 1000 + 60)
    assert [change.alarm.wire() for change in again.changes] == [
        change.alarm.wire() for change in through.changes
    ]
    assert again.orders == through.orders


def _revived(site: Site) -> State:
    header, devices = freeze(site.state)
    state = thaw(header, devices)
    site.engine.derive_deadlines(state)
    return state


@settings(max_examples=250, deadline=None)
@given(histories())
def test_over_stops_every_spell_that_lasted_leads_to_one_alarm_and_no_other_does(told: Told) -> None:
    site, _ = run_through(told)
    expected = _alarms_by_event_times(told)
    raised = [
        change for change in site.changes if change.transition in (Transition.RAISED, Transition.RERAISED)
    ]
    # A live reading is judged by its arrival, a millisecond or two after its event time.
    assert len(raised) >= expected[0]
    assert len(raised) <= expected[1]
    active = False
    for change in site.changes:
        if change.transition in (Transition.RAISED, Transition.RERAISED):
            assert not active, "raised twice"
            active = True
        elif change.transition is Transition.CLEARED:
            active = False
    assert len({order.id for order in site.orders}) == len(site.orders) <= len(raised)


def _alarms_by_event_times(told: Told) -> tuple[int, int]:
    """How many alarms there must be: surely, and at most."""
    readings = sorted(
        (each for each in told.inputs if isinstance(each, Reading)), key=lambda r: r.source_time
    )
    most = least = 0
    for slack in (-3, 3):
        raised, since, count = False, None, 0
        for reading in [*readings, None]:
            so = reading.source_time if reading is not None else told.stopped + 60_000
            if since is not None and not raised and so - since >= 10_000 + slack:
                raised, count = True, count + 1
            if reading is None:
                break
            temperature = float(reading.values["temperature"])
            if temperature >= 65:
                since = so if since is None else since
            elif not raised or temperature < 55:
                raised, since = False, None
        most, least = max(most, count), count
    return least, most


@settings(max_examples=150, deadline=None)
@given(histories(timed=False))
def test_without_times_no_spell_that_lasted_is_missed_for_good(told: Told) -> None:
    site, _ = run_through(told)
    lasted = [
        spell for spell in told.spells if (spell[1] if len(spell) == 2 else told.stopped) - spell[0] > 10_010
    ]
    if lasted:
        assert site.changes
