"""Windows: equal to a naive reference whatever comes, exact up to their cells, and bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Flag, Reading, Scalar
from rules.decisions import CatchingUp, Decision, Input, Listening
from rules.engine import Engine
from rules.files import parse
from rules.functions.folds import CELLS_MOST
from rules.state import Device, State, freeze, thaw

T0 = 1_790_000_000_000
PORT = Address("c1/charger/p1")
BUTTON = Address("c1/button/b1")
MINUTE = 60_000

EVERYTHING = """
rules:
  - id: watch
    kind: charger
    let:
      mean: mean(temperature, '1m')
      low: min(temperature, '1m')
      high: max(temperature, '1m')
      climb: rise(temperature, '1m')
      gain: delta(temperature, '1m')
      hot: count(temperature >= 50, '1m')
      lasted: duration(temperature >= 50)
      before: previous(temperature)
      other: changed(temperature)
      moved: changed(temperature, '1m')
    when: mean > 199
    severity: low
    text: {en: "{mean}", zh: "{mean}"}
  - id: pressed
    kind: button
    when: count(action == 'emergency', '10m') >= 3
    severity: medium
    text: {en: "{device}", zh: "{device}"}
"""

MEAN, LOW, HIGH, CLIMB, GAIN = (
    f"{name}(temperature, 1m)" for name in ("mean", "min", "max", "rise", "delta")
)
HOT, LASTED = "count(temperature >= 50, 1m)", "duration(temperature >= 50)"
BEFORE, OTHER, MOVED = "previous(temperature)", "changed(temperature)", "changed(temperature, 1m)"


@dataclass(frozen=True)
class Sample:
    """What the device said, and when by its own clock."""

    at: int
    value: float


Samples = Sequence[Sample]


def naive(heard: Samples, now: int) -> dict[str, Scalar]:
    """What every term must be after these samples, in the order of their arrival, at ``now`` by the device's time."""
    samples = sorted(heard, key=lambda sample: sample.at)
    newest = samples[-1].at
    inside = [sample for sample in samples if sample.at > newest - MINUTE]
    values = [sample.value for sample in inside]
    found: dict[str, Scalar] = {
        MEAN: sum(values) / len(values),
        LOW: min(values),
        HIGH: max(values),
        HOT: sum(value >= 50 for value in values),
    }
    if inside[0].at < newest:
        found[GAIN] = values[-1] - [sample.value for sample in inside if sample.at == inside[0].at][-1]
    if inside[-1].at - inside[0].at >= MINUTE / 2:
        found[CLIMB] = slope(inside)
    if len(samples) > 1:
        found[BEFORE] = samples[-2].value
        found[OTHER] = samples[-2].value != samples[-1].value
    changes = [late.at for early, late in pairwise(samples) if early.value != late.value]
    if changes and changes[-1] > newest - MINUTE:
        found[MOVED] = True
    elif samples[0].at <= newest - MINUTE:
        found[MOVED] = False
    false = max((index for index, sample in enumerate(samples) if sample.value < 50), default=-1)
    found[LASTED] = (now - samples[false + 1].at) / 1000 if false + 1 < len(samples) else 0.0
    return found


def slope(samples: Samples) -> float:
    t = [sample.at / MINUTE for sample in samples]
    t_mean = sum(t) / len(t)
    v_mean = sum(sample.value for sample in samples) / len(samples)
    above = sum((a - t_mean) * (sample.value - v_mean) for a, sample in zip(t, samples, strict=True))
    return above / sum((a - t_mean) ** 2 for a in t)


ENGINE = Engine(parse([("rules.yaml", parse_yaml(EVERYTHING, "rules.yaml"))]), site="c1", node="gw-1")


def hear(state: State, at: int, value: float, arrival: int, flags: int = 0) -> None:
    reading = Reading(Channel.TELEMETRY, PORT, {"temperature": value}, at, arrival, flags)
    ENGINE.step(state, reading, arrival)


def terms_of(device: Device) -> dict[str, Scalar]:
    return {name: value for name, value in ENGINE.points_of(device).items() if "(" in name}


def same(found: dict[str, Scalar], expected: dict[str, Scalar]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name] == value
        if isinstance(value, bool)
        else isclose(float(found[name]), float(value), rel_tol=1e-6, abs_tol=1e-6)
        for name, value in expected.items()
    )


def different(found: dict[str, Scalar], expected: dict[str, Scalar]) -> list[str]:
    names = sorted(found.keys() | expected.keys())
    return [f"{name}: {found.get(name)} is not {expected.get(name)}" for name in names]


# Gaps are whole parts of the window or more, so that no two samples share a cell.
PART = MINUTE // CELLS_MOST
sample = st.tuples(
    st.integers(0, 60).map(lambda parts: parts * PART),  # ahead of the newest so far
    st.sampled_from([0, 0, 0, 500, 4_000, 10_000]),  # overtaken by so much
    st.integers(20, 80).map(float),
)


def timeline(steps: Sequence[tuple[int, int, float]], latency: int) -> list[tuple[Sample, int]]:
    """Samples in order of arrival, with it: each cell of the window is used once at most, or by equal times."""
    newest = T0
    told: list[tuple[Sample, int]] = []
    for ahead, overtaken, value in steps:
        newest += ahead
        said, arrival = Sample(newest - overtaken, value), newest + latency
        stands_still = bool(told) and told[-1][0].at == said.at and told[-1][1] != arrival
        if not stands_still:
            told.append((said, arrival))
    return told


@settings(max_examples=300, deadline=None)
@given(st.lists(sample, min_size=1, max_size=60), st.sampled_from([3, 900]), st.integers(0, 60))
def test_windows_equal_a_naive_reference_out_of_order_with_duplicates_and_after_a_restart(
    steps: list[tuple[int, int, float]], latency: int, restart: int
) -> None:
    state = State(listening_since=0)
    heard: list[Sample] = []
    newest = (0, 0)
    for number, (said, arrival) in enumerate(timeline(steps, latency)):
        if number == restart:
            state = thaw(*freeze(state))
            ENGINE.derive_deadlines(state)
        heard.append(said)
        hear(state, said.at, said.value, arrival)
        newest = max(newest, (said.at, arrival))
        found, expected = terms_of(state.devices[PORT]), naive(heard, newest[0] + arrival - newest[1])
        assert same(found, expected), different(found, expected)


def test_a_busy_device_fills_a_bounded_number_of_cells_and_every_sample_counts() -> None:
    state = State(listening_since=0)
    values = [20 + number % 50 for number in range(6_000)]
    for number, value in enumerate(values):
        hear(state, T0 + number * 10, value, T0 + number * 10 + 3)
    device = state.devices[PORT]
    for name in (MEAN, LOW, HIGH, CLIMB, GAIN, HOT):
        assert len(device.memory[name][1]) <= 4 * (CELLS_MOST + 1)
    assert device.points[MEAN] == pytest.approx(sum(values) / len(values))
    assert (device.points[LOW], device.points[HIGH]) == (20, 69)
    assert device.points[HOT] == sum(value >= 50 for value in values)
    assert len(freeze(state)[1][0][1]) < 12_000


def test_a_sample_of_which_nobody_knows_when_it_was_so_is_left_out() -> None:
    state = State(listening_since=0)
    hear(state, T0, 40, T0 + 3)
    state.catching_up = True
    hear(state, T0 + 5_000, 90, T0 + 5_000)
    assert terms_of(state.devices[PORT])[MEAN] == 40


def test_a_clock_that_stands_still_or_is_not_believed_goes_on_by_arrivals() -> None:
    for flags in (0, Flag.CLOCK_DOUBTED):
        state = State(listening_since=0)
        for second in range(0, 60, 10):
            arrival = T0 + second * 1000
            hear(state, arrival if flags else T0 - 5_000, 20 + second, arrival, flags)
        assert state.devices[PORT].points[CLIMB] == pytest.approx(60)


def test_a_clock_that_was_set_back_begins_windows_anew_after_a_minute_and_keeps_what_has_lasted() -> None:
    state = State(listening_since=0)
    for minute in range(3):
        hear(state, T0 + minute * MINUTE, 60, T0 + minute * MINUTE + 3)
    hear(state, T0 - 5 * MINUTE, 70, T0 + 4 * MINUTE)
    points = state.devices[PORT].points
    assert (points[MEAN], points[LASTED]) == (70, 120)


RULES = """
rules:
  - id: hot-mean
    kind: charger
    when: mean(temperature, '1m') > 60
    for: 50s
    severity: medium
    text: {en: "{device}", zh: "{device}"}
  - id: flapping
    kind: charger
    when: count(power > 100, '1m') >= 3
    severity: medium
    text: {en: "{device}", zh: "{device}"}
  - id: long
    kind: charger
    let: {open: duration(status == 'Charging')}
    when: open > '8h'
    clear: open < '1h'
    severity: low
    text: {en: "{open}", zh: "{open}"}
  - id: presses
    kind: button
    when: count(action == 'emergency', '10m') >= 3
    severity: medium
    text: {en: "{device}", zh: "{device}"}
  - id: stuck
    kind: charger
    when: status == 'Charging' and not changed(power, '1m')
    severity: low
    text: {en: "{device}", zh: "{device}"}
"""


class Story:
    """Messages in, changes out, each with the second at which it came."""

    def __init__(self, rules: str = RULES) -> None:
        self.engine = Engine(parse([("rules.yaml", parse_yaml(rules, "rules.yaml"))]), site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.changes: list[tuple[str, str, float]] = []

    def hear(self, second: float, address: Address = PORT, **values: Scalar) -> None:
        now = T0 + int(second * 1000)
        channel = Channel.EVENT if "action" in values else Channel.TELEMETRY
        self._keep(self.engine.step(self.state, Reading(channel, address, values, now - 3, now), now))

    def wait(self, second: float) -> None:
        self._keep(self.engine.tick(self.state, T0 + int(second * 1000)))

    def take(self, given_: Input, now: int) -> None:
        self._keep(self.engine.step(self.state, given_, now))

    def restart(self) -> None:
        self.state = thaw(*freeze(self.state))
        self.engine.derive_deadlines(self.state)

    def _keep(self, decision: Decision) -> None:
        self.changes += [
            (change.alarm.rule, change.transition.value, (change.at - T0) / 1000)
            for change in decision.changes
        ]


def test_an_alarm_over_a_window_falls_when_a_sample_leaves_although_nothing_is_said() -> None:
    story = Story()
    for second in (0, 10, 20):
        story.hear(second, power=200)
    story.hear(30, power=5)
    story.restart()
    story.wait(600)
    assert story.changes == [("flapping", "raised", 20), ("flapping", "cleared", 60)]


def test_a_pending_condition_over_a_window_falls_when_a_sample_leaves() -> None:
    story = Story(RULES.replace("for: 50s", "for: 70s"))
    story.hear(0, temperature=100)
    story.hear(20, temperature=50)
    story.wait(600)
    assert story.changes == []


def test_an_empty_window_ends_nothing() -> None:
    story = Story()
    for second in range(0, 80, 10):
        story.hear(second, temperature=80)
    story.wait(3_600)
    assert story.changes == [("hot-mean", "raised", 50)]


def test_a_window_forgets_also_when_only_other_points_are_said() -> None:
    story = Story()
    story.hear(0, power=200)
    story.hear(1, power=200)
    story.hear(300, temperature=20)
    assert "count(power > 100, 1m)" not in story.state.devices[PORT].points


def test_what_grows_crosses_its_bound_to_the_millisecond_without_a_message_and_over_a_restart() -> None:
    story = Story()
    story.hear(0, status="Charging", power=7)
    story.restart()
    story.hear(3_600, power=8)
    assert len([deadline for deadline in story.state.deadlines if "watch" in deadline[3]]) == 1
    story.wait(8 * 3_600)
    assert story.changes == []
    story.wait(9 * 3_600)
    assert story.changes == [("long", "raised", 8 * 3_600 + 0.001)]
    story.hear(9 * 3_600, status="Available")
    assert story.changes[-1] == ("long", "cleared", 9 * 3_600)


def test_events_are_counted_and_their_absence_is_none() -> None:
    story = Story()
    for second in (0, 60, 120):
        story.hear(second, BUTTON, action="emergency")
    story.hear(130, BUTTON, action="test")
    story.wait(3_600)
    assert story.changes == [("presses", "raised", 120), ("presses", "cleared", 600)]


def test_not_to_have_changed_is_known_only_after_the_whole_window() -> None:
    story = Story()
    story.hear(0, status="Charging", power=7)
    story.hear(59, power=7)
    assert story.changes == []
    story.hear(61, power=7)
    assert story.changes == [("stuck", "raised", 61)]
    story.hear(70, power=9)
    assert story.changes[-1] == ("stuck", "cleared", 70)


SMOKE = Address("c1/smoke/s1")
TESTED = """
rules:
  - id: long-smoke
    kind: smoke
    when: duration(smoke and not test) >= '1m'
    severity: high
    text: {en: "{device}", zh: "{device}"}
"""


def test_a_test_that_is_believed_no_longer_feeds_what_lasts() -> None:
    story = Story(TESTED)
    story.hear(0, SMOKE, smoke=True, test=True)
    story.wait(3_600)
    assert story.changes == [("long-smoke", "raised", 660)]


def catch_up(story: Story, second: float, *, on: bool) -> None:
    now = T0 + int(second * 1000)
    for given_ in (
        (Listening(on=not on, at=now), CatchingUp(on=on, at=now))
        if on
        else (
            Listening(on=True, at=now - 500),
            CatchingUp(on=False, at=now),
        )
    ):
        story.take(given_, now)


@pytest.mark.parametrize(("ended", "told"), [(3_000, []), (9_000, ["raised", "cleared"])])
def test_what_would_have_crossed_its_bound_in_a_stop_is_judged_by_the_device_s_time(
    ended: int, told: list[str]
) -> None:
    story = Story(RULES.replace("'8h'", "'2h'"))
    story.hear(0, status="Charging", power=7)
    catch_up(story, 10, on=True)
    story.wait(20_000)
    now = T0 + 20_000_000
    reading = Reading(Channel.TELEMETRY, PORT, {"status": "Available"}, T0 + ended * 1000, now)
    story.take(reading, now)
    catch_up(story, 20_010, on=False)
    assert [what for rule, what, _ in story.changes if rule == "long"] == told
    if told:
        assert story.changes[0][2] == 7_200.001


def test_what_grew_in_a_stop_waits_for_the_device_to_speak_but_not_for_ever() -> None:
    story = Story()
    story.hear(0, status="Charging", power=7)
    catch_up(story, 10, on=True)
    catch_up(story, 50_000, on=False)
    story.wait(50_500)
    assert story.changes == []
    story.restart()
    story.wait(60_000)
    assert story.changes == [("long", "raised", 50_600)]
