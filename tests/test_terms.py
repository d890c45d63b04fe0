"""Terms: what a call in a condition stands for, from the text of a rule to the alarm and back from a snapshot."""

import pytest

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from devices.kinds import KINDS
from devices.readings import Address, Channel, Reading, Scalar
from rules.decisions import Decision
from rules.engine import Engine
from rules.files import parse
from rules.functions import FUNCTIONS
from rules.language.expressions import compile_condition
from rules.language.syntax import ExpressionError
from rules.language.texts import Language, compile_text
from rules.state import State, freeze, thaw
from rules.vocabulary import Point, Sort, Vocabulary

T0 = 1_790_000_000_000
PORT = Address("c1/charger/p1")
CHARGER = Vocabulary.of(KINDS["charger"])

STEP = """
rules:
  - id: step
    kind: charger
    let: {before: previous(power), step: power - before}
    when: step >= 500 or power > 2 * before
    severity: low
    text: {en: "{before:.0f} + {step:.0f}", zh: "{before:.0f} + {step:.0f}"}
"""


def engine(text: str) -> Engine:
    return Engine(parse([("rules.yaml", parse_yaml(text, "rules.yaml"))]), site="c1", node="gw-1")


def hear(machine: Engine, state: State, second: float, **values: Scalar) -> Decision:
    now = T0 + int(second * 1000)
    return machine.step(state, Reading(Channel.TELEMETRY, PORT, values, now, now), now)


def changes(decision: Decision) -> list[tuple[str, str]]:
    return [(change.transition.value, change.alarm.text["en"]) for change in decision.changes]


def test_a_call_is_a_point_that_condition_and_text_can_name_by_let() -> None:
    machine = engine(STEP)
    state = machine.new_state()
    assert changes(hear(machine, state, 0, power=100)) == []
    assert changes(hear(machine, state, 1, power=150)) == []
    decision = hear(machine, state, 2, power=900)
    assert changes(decision) == [("raised", "150 + 750")]
    assert decision.changes[0].alarm.values == {
        "power": 900,
        "previous(power)": 150,
        "before": 150,
        "step": 750,
    }


def test_what_terms_remember_survives_a_snapshot() -> None:
    machine = engine(STEP)
    state = machine.new_state()
    hear(machine, state, 0, power=100)
    state = thaw(*freeze(state))
    machine.derive_deadlines(state)
    assert changes(hear(machine, state, 1, power=900)) == [("raised", "100 + 800")]


def test_a_kind_whose_rules_call_nothing_remembers_nothing() -> None:
    machine = engine(STEP)
    state = machine.new_state()
    reading = Reading(Channel.TELEMETRY, Address("c1/smoke/s1"), {"smoke": False}, T0, T0)
    machine.step(state, reading, T0)
    [device] = state.devices.values()
    assert (device.memory, device.armed, device.points) == ({}, {}, {"smoke": False, "test": False})


def test_the_spelling_of_a_call_is_one_however_it_is_written() -> None:
    one = compile_condition("previous( power )>5", CHARGER, FUNCTIONS)
    other = compile_condition("previous(power) > 6", CHARGER, FUNCTIONS)
    assert one.names == other.names == {"previous(power)"}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("previous() > 5", "column 1: previous needs a point"),
        ("previous(powr) > 5", "column 10: previous needs the name of a point"),
        ("previous(power, 3) > 5", "column 17: one argument too many"),
        ("previous(power, of=3) > 5", "column 20: previous takes no of"),
        ("previus(power) > 5", "column 1: no function of this name"),
        ("previous > 5", "column 1: a function"),
        ("previous(status) == 'charging'", "column 21: previous(status) is never this"),
        ("duration(power > 5) > 60", "column 1: duration(power > 5) is a duration, 60 is a number"),
        ("duration(power > 5) > '60'", "column 23: duration(power > 5) is a duration: compare it with one"),
        ("duration(power > 5) == '60s'", "column 1: duration(power > 5) grows with time: == and != make no"),
        ("2 * duration(power > 5) > '60s'", "column 5: duration(power > 5) grows with time: only compare it"),
        (
            "duration(power > 5) > duration(power > 6)",
            "column 1: duration(power > 5) grows with time: compare it",
        ),
        ("duration(duration(power > 5) > '1h') > '1h'", "column 10: what grows with time cannot stand in"),
        ("'1h' * '2h' < duration(power > 5)", "column 1: a duration and a duration do not go together"),
        ("mean(power) > 5", "column 1: mean needs a duration such as '5m' as argument 2"),
        ("mean(power, 5) > 5", "column 13: must be a duration in quotes"),
        ("mean(status, '5m') > 5", "column 6: mean needs a number, status is one of its words"),
        ("mean(power, '5m') > 30000", "column 21: mean(power, 5m) is never above 20000"),
        ("count(power, '5m') > 5", "column 7: must be true or false, but is a number"),
        ("power.previous(5) > 5", "column 1: not part of the rule language"),
    ],
)
def test_a_call_that_makes_no_sense_is_told_with_its_column(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as error:
        compile_condition(source, CHARGER, FUNCTIONS)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("source", "seconds", "holds"),
    [
        ("duration(power > 5) >= '1h'", 3_600, True),
        ("'1h' < duration(power > 5)", 3_600, False),
        ("duration(power > 5) > 2 * '30m'", 3_601, True),
        ("'20m' <= duration(power > 5) < '1h' / 2", 1_800, False),
        ("'20m' <= duration(power > 5) < '1h' - '30m'", 1_799, True),
        ("duration(power > 5) > '2h' / '1h' * '1m'", 121, True),
    ],
)
def test_durations_are_compared_with_durations(source: str, seconds: float, holds: bool) -> None:
    condition = compile_condition(source, CHARGER, FUNCTIONS)
    assert condition.evaluate({"duration(power > 5)": seconds}) is holds
    assert {crossing.term.name for crossing in condition.crossings} == {"duration(power > 5)"}


def test_a_duration_reads_as_people_say_it() -> None:
    vocabulary = CHARGER.with_points([Point("age", Sort.DURATION)])
    for seconds, en, zh in (
        (0, "0 s", "0秒"),
        (59.9, "59 s", "59秒"),
        (3_600, "1 h", "1小时"),
        (30_000, "8 h 20 min", "8小时20分"),
        (90_061, "1 d 1 h", "1天1小时"),
        (86_405, "1 d", "1天"),
    ):
        for language, told in ((Language.EN, en), (Language.ZH, zh)):
            assert compile_text("{age}", vocabulary, language).render({"age": seconds}) == told


@pytest.mark.parametrize(
    ("let", "told"),
    [
        ("{power: previous(power)}", "means something already"),
        ("{Before: previous(power)}", "a name begins with a letter"),
        ("{before: previous(powr)}", "column 10"),
        ("{before: 3}", "looks at no point"),
    ],
)
def test_a_name_that_makes_no_sense_is_told(let: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        engine(STEP.replace("{before: previous(power), step: power - before}", let))
    assert told in str(error.value)


def test_a_term_that_remembers_what_no_snapshot_can_hold_is_told_so() -> None:
    machine, state = engine(STEP), State(listening_since=0)
    hear(machine, state, 0, power=100)
    state.devices[PORT].memory["previous(power)"] = object()
    with pytest.raises(TypeError, match="remembers a object, which a snapshot cannot hold"):
        freeze(state)
