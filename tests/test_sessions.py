"""A charging session as one thing: ports that say much or little, wrong samples, gaps, restarts."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from rules.decisions import CatchingUp, ClockStepped, Listening
from rules.engine import Engine
from rules.files import parse
from rules.state import State, freeze, thaw

T0 = 1_790_000_000_000
PORT = Address("c1/charger/p1")
MINUTE, HOUR = 60, 3_600

RULES = """
rules:
  - id: long
    kind: charger
    when: session_age > '8h'
    severity: low
    text: {en: "{session_age} {session_phase} {session_energy} {session_peak}", zh: "{session_age}"}
  - id: full
    kind: charger
    when: session_full_for > '1h' or session_restarted
    severity: low
    text: {en: "{session_full_for} {session_restarted}", zh: "{session_full_for}"}
  - id: flat
    kind: charger
    when: session_flat_for > '6h' or session_warming > 10 or session_rising
    severity: low
    text: {en: "{session_flat_for} {session_warming} {session_rising}", zh: "{session_flat_for}"}
"""


class Port:
    """An engine that hears one port."""

    def __init__(self, rules: str = RULES) -> None:
        self.engine = Engine(parse([("rules.yaml", parse_yaml(rules, "rules.yaml"))]), site="c1", node="gw-1")
        self.state: State = self.engine.new_state()
        self.said: list[tuple[str, str, float]] = []

    def at(self, second: float) -> None:
        self._keep(self.engine.tick(self.state, T0 + round(second * 1000)).changes)

    def says(self, second: float, **values: Scalar) -> None:
        now = T0 + round(second * 1000)
        reading = Reading(Channel.TELEMETRY, PORT, values, now, now)
        self._keep(self.engine.tick(self.state, now).changes)
        self._keep(self.engine.step(self.state, reading, now).changes)

    def draws(self, begin: float, end: float, every: float, power: float, **values: Scalar) -> None:
        second = begin
        while second < end:
            self.says(second, power=power, **values)
            second += every

    def restart(self) -> None:
        header, devices = freeze(self.state)
        self.state = thaw(header, devices)
        self.engine.derive_deadlines(self.state)

    def point(self, name: str) -> Scalar | None:
        return self.engine.points_of(self.state.devices[PORT]).get(f"{name}()")

    def _keep(self, changes: Sequence[object]) -> None:
        for change in changes:
            self.said.append(
                (change.transition.value, change.alarm.rule, (change.at - T0) / 1000)  # type: ignore[attr-defined]
            )


def test_a_port_that_has_said_nothing_of_sessions_has_unknown_ones() -> None:
    port = Port()
    port.says(0, temperature=25)
    assert port.point("session_phase") is None
    assert port.point("session_age") is None
    port.says(10, status="Available")
    assert (port.point("session_phase"), port.point("session_age")) == ("idle", 0)


def test_a_session_begins_with_its_status_and_ends_with_it() -> None:
    port = Port()
    port.says(0, status="Preparing", session="s1", power=0)
    assert port.point("session_phase") == "idle"
    port.says(10, status="Charging", session="s1", power=2)
    assert port.point("session_phase") == "starting"
    port.says(20, status="Charging", session="s1", power=200)
    port.says(30, status="Charging", session="s1", power=210)
    assert (port.point("session_phase"), port.point("session_age")) == ("charging", 20)
    assert port.point("session_peak") == 200
    port.says(40, status="Available", session="", power=0)
    assert (port.point("session_phase"), port.point("session_age")) == ("idle", 0)


def test_a_port_that_tells_its_power_only_ends_after_drawing_nothing_for_five_minutes() -> None:
    port = Port()
    port.draws(0, 10 * MINUTE, MINUTE, 180)
    port.says(10 * MINUTE, power=0)
    port.says(12 * MINUTE, power=1)
    assert port.point("session_phase") != "idle"
    port.says(15 * MINUTE, power=0)
    assert port.point("session_phase") == "idle"


def test_one_sample_of_nothing_ends_no_session_even_where_reports_come_every_five_minutes() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 180)
    port.says(HOUR, power=0)
    port.says(HOUR + 5 * MINUTE, power=180)
    port.says(HOUR + 10 * MINUTE, power=0)
    assert port.point("session_age") == HOUR + 10 * MINUTE


def test_eight_hours_are_over_at_their_second_without_a_message() -> None:
    port = Port()
    port.says(0, status="Charging", power=180)
    port.at(9 * HOUR)
    port.says(9 * HOUR + 1, status="Available", power=0)
    told = [each for each in port.said if each[1] == "long"]
    assert told == [("raised", "long", 8 * HOUR + 0.001), ("cleared", "long", 9 * HOUR + 1)]


def test_energy_is_what_the_register_counted() -> None:
    port = Port()
    port.says(0, status="Available", energy=100.0, power=0)
    port.says(60, status="Charging", energy=100.0, power=180)
    port.says(HOUR, status="Charging", energy=100.2, power=180)
    port.says(2 * HOUR, status="Charging", energy=0.1, power=180)
    port.says(3 * HOUR, status="Charging", energy=0.3, power=180)
    assert round(float(port.point("session_energy") or 0), 3) == 0.4


def test_without_a_register_energy_is_summed_up_and_unknown_after_a_gap() -> None:
    port = Port()
    port.draws(0, HOUR + 1, 5 * MINUTE, 200, status="Charging")
    assert round(float(port.point("session_energy") or 0), 3) == 0.2
    port.says(HOUR + 20 * MINUTE, power=200, status="Charging")
    assert port.point("session_energy") is None
    assert port.point("session_age") == HOUR + 20 * MINUTE


def test_one_wrong_sample_is_no_peak() -> None:
    port = Port()
    port.draws(0, HOUR, MINUTE, 200, status="Charging")
    port.says(HOUR, power=3_000, status="Charging")
    port.draws(HOUR + MINUTE, HOUR + 40 * MINUTE, MINUTE, 200, status="Charging")
    assert port.point("session_peak") == 200
    assert port.point("session_phase") == "charging"


def test_half_an_hour_of_floating_is_full_and_its_hour_counts_from_then() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 200, status="Charging")
    port.draws(HOUR, 3 * HOUR, 5 * MINUTE, 20, status="Charging")
    assert port.point("session_phase") == "full"
    assert port.said == [("raised", "full", 2 * HOUR + 30 * MINUTE + 0.001)]
    port.says(3 * HOUR, status="Available", power=0)
    assert port.said[1:] == [("cleared", "full", 3 * HOUR)]


def test_a_port_that_says_finishing_is_full_at_once() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 200, status="Charging")
    port.says(HOUR, power=0, status="Finishing")
    port.at(3 * HOUR)
    assert port.said == [("raised", "full", 2 * HOUR + 0.001)]


def test_a_battery_cut_off_by_its_socket_is_not_full() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 200, status="Charging")
    port.draws(HOUR, 4 * HOUR, 5 * MINUTE, 0, status="SuspendedEVSE")
    assert port.said == []


def test_power_that_comes_back_for_a_minute_after_full_is_a_restart() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 200, status="Charging")
    port.draws(HOUR, 2 * HOUR, 5 * MINUTE, 5, status="Charging")
    port.says(2 * HOUR, status="Charging", power=180)
    port.says(2 * HOUR + 1, status="Charging", power=5)
    port.says(2 * HOUR + 90, status="Charging", power=180)
    assert port.point("session_restarted") is False
    port.says(2 * HOUR + 150, status="Charging", power=180)
    assert port.point("session_restarted") is True
    assert port.said == [("raised", "full", 2 * HOUR + 150)]


def test_power_that_rises_in_the_taper_is_told_and_a_bulk_that_rises_is_not() -> None:
    port = Port()
    for minute in range(120):
        port.says(minute * MINUTE, status="Charging", power=200 + minute / 10)
    assert port.point("session_rising") is False
    for minute, power in enumerate((150, 120, 100, 90, 85, 90, 130, 140, 150)):
        port.says((120 + minute) * MINUTE, status="Charging", power=power)
    assert port.point("session_rising") is True


def test_level_power_without_a_taper_counts_from_its_beginning() -> None:
    port = Port()
    for quarter in range(40):
        port.says(quarter * 15 * MINUTE, status="Charging", power=200 + quarter / 4)
    assert ("raised", "flat", 6 * HOUR + 0.001) in port.said


def test_a_slope_is_known_after_the_port_has_warmed_up_and_follows_the_last_half_hour() -> None:
    port = Port()
    for step in range(9):
        port.says(step * 5 * MINUTE, status="Charging", power=200, temperature=25 + step)
        if step < 8:
            assert port.point("session_warming") is None
    assert round(float(port.point("session_warming") or 0), 1) == 12.0


def test_an_alarm_tells_of_the_session_by_the_names_of_its_rule_and_others_tell_nothing_of_it() -> None:
    port = Port(
        RULES
        + """
  - id: hot
    kind: charger
    when: temperature >= 60
    severity: low
    text: {en: hot, zh: 热}
"""
    )
    port.says(0, status="Charging", power=180)
    port.says(60, status="Charging", power=180, temperature=70)
    port.at(9 * HOUR)
    values = {alarm.rule: set(alarm.values) for alarm in port.state.alarms.values()}
    assert values["hot"] == {"status", "power", "temperature"}
    spoken = {"session_age", "session_phase", "session_energy", "session_peak"}
    assert values["long"] == values["hot"] | spoken | {f"{name}()" for name in spoken}


def test_another_name_is_another_session() -> None:
    port = Port()
    port.draws(0, HOUR, 5 * MINUTE, 200, status="Charging", session="a")
    port.says(HOUR, power=200, status="Charging", session="b")
    port.says(HOUR + MINUTE, power=200, status="Charging", session="b")
    assert port.point("session_age") == MINUTE


def test_unheard_for_longer_than_any_charge_only_the_same_name_is_the_same_session() -> None:
    named, unnamed = Port(), Port()
    for port, name in ((named, {"session": "a"}), (unnamed, {})):
        port.says(0, power=200, status="Charging", energy=10.0, **name)
        port.says(60, power=200, status="Charging", energy=10.0, **name)
        port.says(13 * HOUR, power=200, status="Charging", energy=10.5, **name)
        port.says(13 * HOUR + 60, power=200, status="Charging", energy=10.6, **name)
    assert named.point("session_age") == 13 * HOUR + 60
    assert round(float(named.point("session_energy") or 0), 3) == 0.6
    assert unnamed.point("session_age") == 60
    assert round(float(unnamed.point("session_energy") or 0), 3) == 0.1


def test_over_a_stop_of_the_gateway_a_session_grows_only_once_its_port_is_heard_again() -> None:
    port = Port()
    port.says(0, status="Charging", power=200)
    away, back = T0 + HOUR * 1000, T0 + 11 * HOUR * 1000
    port.engine.step(port.state, Listening(on=False, at=away), away)
    port.engine.step(port.state, CatchingUp(on=True, at=away), away)
    port.engine.step(port.state, Listening(on=True, at=back), back)
    port.engine.step(port.state, CatchingUp(on=False, at=back), back)
    port.at(11.5 * HOUR)
    assert port.state.alarms == {}
    port.says(11.6 * HOUR, status="Charging", power=200)
    assert ("raised", "long", 11.6 * HOUR) in port.said


def test_a_step_of_the_clock_leaves_a_session_its_age() -> None:
    port = Port()
    port.says(0, status="Charging", power=200)
    port.engine.step(port.state, ClockStepped(3 * HOUR * 1000, T0 + HOUR * 1000), T0 + HOUR * 1000)
    port.at(11 * HOUR + 1)
    assert port.said == [("raised", "flat", 9 * HOUR + 0.001), ("raised", "long", 11 * HOUR + 0.001)]


STATUSES = ["Available", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing", "Faulted"]
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "power": st.sampled_from([0, 2, 5, 40, 180, 200, 220, 3_000]),
        "status": st.sampled_from(STATUSES),
        "session": st.sampled_from(["", "a", "b"]),
        "energy": st.sampled_from([0.0, 10.0, 10.5, 11.0]),
        "temperature": st.sampled_from([20.0, 30.0, 60.0]),
    },
)
MESSAGES = st.lists(st.tuples(st.sampled_from([0, 1, 60, 300, 1_800, 7_200, 50_000]), VALUES), max_size=30)


def play(messages: Sequence[tuple[int, Mapping[str, Scalar]]], *, restarts: bool, ticks: bool) -> Port:
    port, second = Port(), 0
    for passed, values in messages:
        if ticks:
            for part in range(1, 4):
                port.at(second + passed * part / 4)
        second += passed
        if restarts:
            port.restart()
        port.says(second, **values)
    port.at(second + 12 * HOUR)
    return port


@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_neither_restarts_nor_the_moments_at_which_the_engine_is_asked_change_a_session(
    messages: list[tuple[int, Mapping[str, Scalar]]],
) -> None:
    once = play(messages, restarts=False, ticks=False)
    for restarts, ticks in ((True, False), (False, True)):
        other = play(messages, restarts=restarts, ticks=ticks)
        assert other.said == once.said
        assert [each.points for each in other.state.devices.values()] == [
            each.points for each in once.state.devices.values()
        ]


@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_no_figure_of_a_session_is_ever_negative_and_idle_means_none_is_under_way(
    messages: list[tuple[int, Mapping[str, Scalar]]],
) -> None:
    port, second = Port(), 0
    for passed, values in messages:
        second += passed
        port.says(second, **values)
        for name in ("session_age", "session_energy", "session_peak", "session_full_for", "session_flat_for"):
            assert float(port.point(name) or 0) >= 0
        if port.point("session_phase") == "idle":
            assert port.point("session_age") == 0
            assert port.point("session_restarted") is False
