"""What is usual: learnt within a bound, in bounded room, from ordinary days only."""

import math
import sys
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from devices.readings import Address, Channel, Flag, Reading, Scalar
from rules.decisions import ClockStepped
from rules.engine import Engine
from rules.files import parse
from rules.functions.sketches import BINS_MOST, ERROR, LEAST, Bins, add, halve, quantile
from rules.state import State, freeze, thaw

T0 = 1_790_000_000_000
SENSOR = Address("c1/smoke/s1")
PORT = Address("c1/charger/p1")
BUTTON = Address("c1/button/b1")
MINUTE, HOUR, DAY = 60, 3_600, 86_400

RULES = """
rules:
  - id: dense
    kind: smoke
    when: density > 1.5 * usual(density) or density > 3 * usual(density, 0.9)
    severity: low
    text: {en: d, zh: 烟}
  - id: fault
    kind: smoke
    when: fault
    severity: low
    text: {en: fault, zh: 故障}
  - id: fire
    kind: smoke
    when: smoke
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
  - id: strong
    kind: charger
    when: power > 1.5 * usual(power) or session_energy > 1.2 * usual_session_energy
    severity: low
    text: {en: "{power}", zh: 强}
  - id: quiet
    kind: button
    when: inactive_for >= 1.5 * usual_gap
    severity: high
    text: {en: "{place}", zh: 静}
  - id: overdue
    kind: button
    when: since_event(action == 'test', first='heard') >= '31d'
    severity: low
    text: {en: test, zh: 测试}
  - id: absent
    kind: button
    when: since_event(action == 'check_in') >= '26h'
    severity: low
    text: {en: check, zh: 平安}
"""


class Home:
    """An engine that hears a few devices."""

    def __init__(self) -> None:
        self.engine = Engine(parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))]), site="c1", node="gw-1")
        self.state: State = self.engine.new_state()
        self.said: list[tuple[str, str, float]] = []
        self.values: list[dict[str, Scalar]] = []

    def at(self, second: float) -> None:
        self._keep(self.engine.tick(self.state, T0 + round(second * 1000)).changes)

    def hears(
        self, second: float, address: Address, values: dict[str, Scalar], channel: Channel = Channel.TELEMETRY
    ) -> None:
        now = T0 + round(second * 1000)
        self._keep(self.engine.tick(self.state, now).changes)
        self._keep(self.engine.step(self.state, Reading(channel, address, values, now, now), now).changes)

    def presses(self, second: float, action: str) -> None:
        self.hears(second, BUTTON, {"action": action}, Channel.EVENT)

    def point(self, address: Address, name: str) -> Scalar | None:
        return self.state.devices[address].points.get(name)

    def restart(self) -> None:
        header, devices = freeze(self.state)
        self.state = thaw(header, devices)
        self.engine.derive_deadlines(self.state)

    def _keep(self, changes: Sequence[object]) -> None:
        for change in changes:
            self.said.append(
                (change.transition.value, change.alarm.rule, (change.at - T0) / 1000)  # type: ignore[attr-defined]
            )
            self.values.append(change.alarm.values)  # type: ignore[attr-defined]


# The sketch

NUMBERS = st.floats(1, 20, allow_nan=False) | st.floats(-20, -1, allow_nan=False) | st.just(0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1, 80), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_a_quantile_is_within_five_percent_of_the_naive_one(values: list[float], share: float) -> None:
    bins: Bins = {}
    for value in values:
        add(bins, value)
    naive = sorted(values)[int(share * (len(values) - 1))]
    assert abs(quantile(bins, share) - naive) <= naive * (ERROR + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_a_sketch_is_bounded_and_stays_between_the_extremes(values: list[float]) -> None:
    bins: Bins = {}
    for value in values:
        add(bins, value)
    assert len(bins) <= BINS_MOST
    assert sum(bins.values()) == len(values)
    least, most = min(values), max(values)
    for share in (0.0, 0.5, 1.0):
        told = quantile(bins, share)
        assert least - abs(least) * ERROR - LEAST <= told <= most + abs(most) * ERROR + LEAST


@pytest.mark.parametrize("value", [1e306, -1e306, sys.float_info.max])
def test_a_value_at_the_end_of_the_floats_is_taken_too(value: float) -> None:
    bins: Bins = {}
    add(bins, value)
    told = quantile(bins, 0.5)
    assert 1e304 < abs(told) < math.inf
    assert told * value > 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 80), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_halving_forgets_what_was_rare_and_keeps_what_is_usual(values: list[float], share: float) -> None:
    bins: Bins = {}
    for value in values:
        add(bins, value, 64)
    before = quantile(bins, share)
    halve(bins)
    assert sum(bins.values()) == 32 * len(values)
    assert abs(quantile(bins, share) / before - 1) <= 2 * ERROR or len(values) < 50


# A point


def taught(home: Home, days: float = 4, begin: float = 0) -> float:
    """Density of 0.1 every five minutes; returns when it ended."""
    second = begin
    while second < begin + days * DAY:
        home.hears(second, SENSOR, {"density": 0.1})
        second += 5 * MINUTE
    return second


def test_a_habit_is_unknown_for_three_days_and_known_within_five_percent_then() -> None:
    home = Home()
    second = taught(home, days=2.9)
    assert home.point(SENSOR, "usual(density)") is None
    taught(home, days=0.2, begin=second)
    assert home.point(SENSOR, "usual(density)") == pytest.approx(0.1, rel=ERROR)
    assert home.point(SENSOR, "usual(density, 0.9)") == pytest.approx(0.1, rel=ERROR)


def test_a_device_that_says_much_does_not_teach_more() -> None:
    home = Home()
    for second in range(0, 4 * HOUR, 2):
        home.hears(second, SENSOR, {"density": 0.1})
    memory = msgspec.to_builtins(home.state.devices[SENSOR].memory["usual(density)"])
    assert memory[1] == 48


def test_alarms_and_tests_do_not_teach() -> None:
    home = Home()
    second = taught(home)
    before = msgspec.to_builtins(home.state.devices[SENSOR].memory["usual(density)"])
    home.hears(second, SENSOR, {"density": 0.9})
    assert home.said[-1][:2] == ("raised", "dense")
    for step in range(1, 200):
        home.hears(second + step * 5 * MINUTE, SENSOR, {"density": 0.9})
    home.hears(second + 2 * DAY, SENSOR, {"density": 0.1})
    home.hears(second + 2 * DAY + 10 * MINUTE, SENSOR, {"test": True})
    home.hears(second + 2 * DAY + 11 * MINUTE, SENSOR, {"density": 0.12})
    after = msgspec.to_builtins(home.state.devices[SENSOR].memory["usual(density)"])
    assert after[1] - before[1] <= 2
    assert home.point(SENSOR, "usual(density)") == pytest.approx(0.1, rel=ERROR)


def test_an_alarm_about_something_else_does_not_keep_it_from_learning_a_critical_one_does() -> None:
    home = Home()
    home.hears(0, SENSOR, {"fault": True})
    taught(home, days=1)
    memory = home.state.devices[SENSOR].memory["usual(density)"]
    assert memory.lessons == 288
    home.hears(DAY, SENSOR, {"smoke": True})
    taught(home, days=1, begin=DAY)
    assert home.state.devices[SENSOR].memory["usual(density)"].lessons == 288


def test_a_habit_follows_a_new_one_within_two_weeks() -> None:
    home = Home()
    second = taught(home, days=30)
    for step in range(20 * 288):
        home.hears(second + step * 5 * MINUTE, SENSOR, {"density": 0.13})
    assert home.point(SENSOR, "usual(density)") == pytest.approx(0.13, rel=ERROR)


def test_a_step_of_the_clock_moves_nothing_learnt() -> None:
    home = Home()
    second = taught(home)
    before = home.point(SENSOR, "usual(density)")
    now = T0 + second * 1000
    home.engine.step(home.state, ClockStepped(-10 * DAY * 1000, round(now)), round(now))
    home.restart()
    taught(home, days=0.1, begin=second - 10 * DAY + 1)
    assert home.point(SENSOR, "usual(density)") == before


def test_a_port_learns_its_power_while_it_charges_and_its_energy_at_the_end_of_each_session() -> None:
    home = Home()
    register = 0.0
    for day in range(25):
        for step in range(36):
            register += 0.02
            home.hears(
                day * DAY + step * 5 * MINUTE,
                PORT,
                {"status": "Charging", "power": 240, "energy": round(register, 3)},
            )
        home.hears(
            day * DAY + 4 * HOUR, PORT, {"status": "Available", "power": 0, "energy": round(register, 3)}
        )
    assert home.point(PORT, "usual(power)") == pytest.approx(240, rel=ERROR)
    assert home.point(PORT, "usual_session_energy()") == pytest.approx(0.7, rel=2 * ERROR)
    assert home.said == []
    home.hears(26 * DAY, PORT, {"status": "Charging", "power": 420})
    assert home.said[-1][:2] == ("raised", "strong")


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("battery > usual(worn)", "worn is true or false"),
        ("battery > usual(battery, 2)", "from 0.01 to 0.99"),
        ("session_age() >= '1h'", "has no sessions"),
        ("since_event(battery > 3) >= '1h'", "must look at an event field"),
    ],
)
def test_what_makes_no_habit_is_refused_with_its_reason(condition: str, told: str) -> None:
    text = f'rules: [{{id: a, kind: button, severity: low, text: {{en: a, zh: 甲}}, when: "{condition}"}}]'
    with pytest.raises(ConfigurationError, match=told):
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])


# Signs of life


def lives(home: Home, days: int, *, begin: int = 0, battery: bool = False) -> None:
    """Up from 7 to 22 o'clock (T0 is 14:13 UTC), one report an hour, a bath of two hours at ten."""
    for hour in range(begin * 24, (begin + days) * 24):
        clock = (hour + 14) % 24
        up = 7 <= clock < 22 and clock != 10
        values: dict[str, Scalar] = {"activity": 20 if up else 0, "worn": True}
        home.hears(hour * HOUR, BUTTON, values | ({"battery": 50} if battery else {}))


def test_gaps_are_learnt_by_the_time_of_day_in_a_week() -> None:
    home = Home()
    lives(home, 6)
    assert home.point(BUTTON, "usual_gap()") is None
    lives(home, 15, begin=6)
    for hour in range(21 * 24, 21 * 24 + 8):  # until she goes to bed
        home.hears(hour * HOUR, BUTTON, {"activity": 5})
    assert float(home.point(BUTTON, "usual_gap()") or 0) == pytest.approx(10 * HOUR, rel=0.1)
    for hour in range(21 * 24 + 17, 21 * 24 + 19):  # after breakfast
        home.hears(hour * HOUR, BUTTON, {"activity": 5})
    assert float(home.point(BUTTON, "usual_gap()") or 0) < 3 * HOUR
    assert home.said == []


def test_a_fall_after_breakfast_is_found_before_noon_and_a_night_is_nothing() -> None:
    home = Home()
    lives(home, 20)
    fall = 20 * 24 + 18  # 8 o'clock: moved at 7 last
    for hour in range(20 * 24, fall):
        clock = (hour + 14) % 24
        home.hears(hour * HOUR, BUTTON, {"activity": 20 if 7 <= clock < 22 else 0})
    assert home.said == []
    for hour in range(fall, fall + 10):
        home.hears(hour * HOUR, BUTTON, {"activity": 0})
    [(change, rule, second)] = home.said
    assert (change, rule) == ("raised", "quiet")
    assert (fall - 1 + 2) * HOUR < second < (fall - 1 + 5) * HOUR


def test_a_device_out_of_reach_tells_nothing_of_a_person() -> None:
    home = Home()
    lives(home, 20)
    home.at(40 * DAY)
    assert [each for each in home.said if each[1] == "quiet"] == []


def test_not_worn_nothing_counts_and_worn_again_it_begins_anew() -> None:
    home = Home()
    lives(home, 20)
    begin = 20 * DAY + 18 * HOUR
    home.hears(begin, BUTTON, {"activity": 20, "worn": True})
    home.hears(begin + HOUR, BUTTON, {"activity": 0, "worn": False})
    home.hears(begin + 6 * HOUR, BUTTON, {"activity": 0})
    assert home.said == []
    home.hears(begin + 7 * HOUR, BUTTON, {"activity": 0, "worn": True})
    assert home.point(BUTTON, "inactive_for()") == 0


def test_nothing_of_a_persons_day_is_told_with_an_alarm() -> None:
    home = Home()
    lives(home, 20, battery=True)
    for hour in range(18, 30):
        home.hears(20 * DAY + hour * HOUR, BUTTON, {"activity": 0, "worn": True, "battery": 50})
    assert home.said[-1][:2] == ("raised", "quiet")
    assert set(home.values[-1]) == {"battery"}


def test_what_has_to_happen_every_month_is_overdue_to_the_second_also_over_restarts() -> None:
    home = Home()
    home.hears(0, BUTTON, {"battery": 90})
    home.restart()
    home.at(32 * DAY)
    home.presses(33 * DAY, "test")
    assert home.said == [("raised", "overdue", 31 * DAY), ("cleared", "overdue", 33 * DAY)]


def test_what_never_happened_is_unknown_without_first() -> None:
    home = Home()
    home.presses(0, "test")
    home.at(5 * DAY)
    assert home.said == []
    home.presses(5 * DAY, "check_in")
    home.at(7 * DAY)
    assert home.said == [("raised", "absent", 6 * DAY + 2 * HOUR)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 300, 3_600, 10_000, 40_000]),
        st.sampled_from(["still", "moves", "off", "on", "press"]),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_restarts_change_nothing_of_what_is_learnt_of_a_person(steps: list[tuple[int, str]]) -> None:
    homes = Home(), Home()
    for index, home in enumerate(homes):
        second = 0
        for passed, what in steps * 8:
            second += passed
            if index:
                home.restart()
            match what:
                case "still" | "moves":
                    home.hears(second, BUTTON, {"activity": int(what == "moves")})
                case "off" | "on":
                    home.hears(second, BUTTON, {"worn": what == "on"})
                case "press":
                    home.presses(second, "check_in")
        home.at(second + 2 * DAY)
    assert homes[0].said == homes[1].said
    assert [each.points for each in homes[0].state.devices.values()] == [
        each.points for each in homes[1].state.devices.values()
    ]


def test_habits_take_a_few_hundred_bytes_a_device() -> None:
    home = Home()
    lives(home, 60)
    for step in range(3_000):
        home.hears(step * 7 * MINUTE, SENSOR, {"density": 0.01 * (1 + step * 37 % 500)})
    _, devices = freeze(home.state)
    assert all(len(body) < 1_000 for _, body in devices), {name: len(body) for name, body in devices}


def test_old_news_delivered_on_subscribing_does_not_teach() -> None:
    home = Home()
    reading = Reading(Channel.TELEMETRY, SENSOR, {"density": 0.1}, T0, T0, Flag.RETAINED)
    home.engine.step(home.state, reading, T0)
    assert home.state.devices[SENSOR].memory == {}
