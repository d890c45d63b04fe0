"""Between two crossings nothing that grows is looked at: no decision is another one for it."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Channel, Reading, Scalar
from rules.engine import Engine
from rules.state import freeze, thaw
from tests.rule_world import PORT, T0, rules

RULES = """
rules:
  - id: long
    kind: charger
    when: session_age >= '20s' and power >= 100
    severity: low
    text: {en: "{session_age}", zh: "{session_age}"}
  - id: hot
    kind: charger
    when: duration(temperature > 50) > '7s'
    clear: temperature < 40
    for: 2s
    severity: high
    text: {en: hot, zh: 热}
  - id: unusual
    kind: charger
    let: {floating: "duration(power < 100)", recent: "max(temperature, '10s')"}
    when: floating > recent * '1s' / 5
    severity: low
    text: {en: "{floating}", zh: "{floating}"}
  - id: flat
    kind: charger
    when: session_flat_for >= '11s'
    severity: low
    text: {en: "{session_flat_for}", zh: "{session_flat_for}"}
"""
LASTING = """
rules:
  - id: lasting
    kind: charger
    when: duration(power > 50) >= '8h'
    severity: low
    text: {en: "8 h", zh: 8小时}
"""
ENGINE = Engine(rules(RULES), site="c1", node="gw-1")

Message = tuple[int, int, dict[str, Scalar]]

MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 500, 1_000, 5_000, 9_999]),
        st.integers(-3_000, 3_000),
        st.fixed_dictionaries(
            {},
            optional={
                "power": st.sampled_from([0.0, 90.0, 150.0, 155.0, 250.0]),
                "temperature": st.sampled_from([20.0, 45.0, 60.0]),
                "status": st.sampled_from(["Charging", "Available"]),
            },
        ),
    ),
    min_size=5,
    max_size=40,
)


def told(messages: Sequence[Message], *, always: bool, restarts: bool = False) -> list[object]:
    """Every decision; ``always`` looks at what grows at every message, as if there were no lulls.

    Where all comes in order, also what people are shown after it.
    """
    state, now, decisions = ENGINE.new_state(), T0, list[object]()
    in_order = len({behind for _, behind, _ in messages}) == 1
    for passed, behind, values in messages:
        now += passed
        if restarts:
            state = thaw(*freeze(state))
            ENGINE.derive_deadlines(state)
        if always:
            for device in state.devices.values():
                device.lull = None
        reading = Reading(Channel.TELEMETRY, PORT, dict(values), now - behind, now)
        decisions.append(ENGINE.step(state, reading, now))
        if in_order:
            decisions.append(ENGINE.points_of(state.devices[PORT]))
    decisions.append(ENGINE.tick(state, now + 60_000))
    return decisions


@settings(max_examples=150, deadline=None)
@given(MESSAGES)
def test_what_is_not_looked_at_in_a_lull_decides_nothing(messages: Sequence[Message]) -> None:
    assert told(messages, always=False) == told(messages, always=True)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_what_is_not_looked_at_in_a_lull_is_shown_as_it_is(messages: Sequence[Message]) -> None:
    in_order = [(passed, 5, values) for passed, _, values in messages]
    assert told(in_order, always=False) == told(in_order, always=True)


@settings(max_examples=50, deadline=None)
@given(MESSAGES)
def test_a_lull_goes_on_over_a_restart(messages: Sequence[Message]) -> None:
    assert told(messages, always=False, restarts=True) == told(messages, always=False)


def test_a_level_that_begins_anew_at_every_message_disturbs_no_lull() -> None:
    state, lulls = ENGINE.new_state(), list[object]()
    for second in range(40):
        now = T0 + second * 1_000
        values: dict[str, Scalar] = {"power": 150.0 if second // 2 % 2 else 250.0, "status": "Charging"}
        ENGINE.step(state, Reading(Channel.TELEMETRY, PORT, values, now - 5, now), now)
        lulls.append(state.devices[PORT].lull)
    assert sum(after is before for before, after in pairwise(lulls[2:18])) >= 13
    assert ENGINE.points_of(state.devices[PORT])["session_flat_for()"] == 1.0


def test_most_messages_find_a_lull() -> None:
    state, lulls = ENGINE.new_state(), list[object]()
    for second in range(10):
        now = T0 + second * 1_000
        reading = Reading(Channel.TELEMETRY, PORT, {"power": 150.0, "status": "Charging"}, now, now)
        ENGINE.step(state, reading, now)
        lulls.append(state.devices[PORT].lull)
    assert lulls[1] is not None
    assert all(lull is lulls[1] for lull in lulls[1:])


def test_people_see_how_long_it_has_lasted_by_the_last_message() -> None:
    state = ENGINE.new_state()
    for second in range(0, 15, 5):
        now = T0 + second * 1_000
        reading = Reading(Channel.TELEMETRY, PORT, {"power": 150.0, "status": "Charging"}, now, now)
        ENGINE.step(state, reading, now)
    assert ENGINE.points_of(state.devices[PORT])["session_age()"] == 10.0


BACKLOG, EVERY_MS = 10_000, 360


def test_a_backlog_by_which_a_device_catches_up_leaves_no_deadline_for_each_message() -> None:
    patient = Engine(rules(LASTING), site="c1", node="gw-1")
    state = patient.new_state()
    begin = said = T0 - BACKLOG * EVERY_MS
    now = T0
    for number in range(BACKLOG):  # an hour of it, within ten seconds
        said, now = begin + number * EVERY_MS, T0 + number
        patient.step(state, Reading(Channel.TELEMETRY, PORT, {"power": 100.0}, said, now), now)
    assert len(state.deadlines) < 2_000
    crosses = begin + 8 * 3_600_000 + now - said
    assert not patient.tick(state, crosses - 1).changes
    assert [change.at for change in patient.tick(state, crosses).changes] == [crosses]
