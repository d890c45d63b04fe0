"""Conditions: what parses, what it means with unknown points, and how a mistake is told."""

from contextlib import suppress
from dataclasses import dataclass
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Scalar
from rules.definitions import Condition, Truth
from rules.language.expressions import compile_condition
from rules.language.guards import guard_of
from rules.language.syntax import LENGTH_LIMIT, NODE_LIMIT, ExpressionError
from rules.vocabulary import Sort, Vocabulary

CHARGER, SMOKE, BUTTON, ELEVATOR = (
    Vocabulary.of(KINDS[name]) for name in ("charger", "smoke", "button", "elevator")
)


def truth(source: str, vocabulary: Vocabulary = CHARGER, /, **points: Scalar) -> Truth:
    return compile_condition(source, vocabulary).evaluate(points)


# What a condition means


@pytest.mark.parametrize(
    ("source", "points", "expected"),
    [
        ("temperature >= 65", {"temperature": 65}, True),
        ("temperature >= 65", {"temperature": 64.9}, False),
        ("temperature >= 65", {}, None),
        ("65 <= temperature", {"temperature": 70}, True),
        ("65 > temperature", {"temperature": 70}, False),
        ("40 <= temperature < 80", {"temperature": 40.0}, True),
        ("40 <= temperature < 80", {"temperature": 80}, False),
        ("40 <= temperature < 80", {}, None),
        ("status == 'Charging'", {"status": "Charging"}, True),
        ("'Charging' != status", {"status": "Charging"}, False),
        ("session == 'a'", {"session": "b"}, False),
        ("voltage * current > 1.2 * power", {"voltage": 230, "current": 2, "power": 300}, True),
        ("voltage * current > power", {"voltage": 230, "current": 2}, None),
        ("power / current > 250", {"power": 100, "current": 0}, None),
        ("power / current > 250", {"power": 600, "current": 2.0}, True),
        ("-temperature > 5 + 5", {"temperature": -11}, True),
        ("-(temperature) > 5", {}, None),
        ("temperature - 2 - 3 == 0", {"temperature": 5}, True),
        ("temperature > 60 and power < 5", {"temperature": 20}, False),
        ("temperature > 60 and power < 5", {"power": 9}, False),
        ("temperature > 60 and power < 5", {"temperature": 61}, None),
        ("temperature > 60 or power < 5", {"temperature": 61}, True),
        ("temperature > 60 or power < 5", {"power": 1}, True),
        ("temperature > 60 or power < 5", {"power": 9}, None),
        ("not temperature > 60", {}, None),
        ("not temperature > 60", {"temperature": 1}, True),
        ("temperature_rate >= 1", {"temperature_rate": 1.2}, True),
        ("temperature > 1\n  and power > 1", {"temperature": 2, "power": 2}, True),
    ],
)
def test_a_condition_is_true_false_or_unknown(
    source: str, points: dict[str, Scalar], expected: Truth
) -> None:
    assert truth(source, CHARGER, **points) is expected


@pytest.mark.parametrize(
    ("source", "points", "expected"),
    [
        ("smoke", {"smoke": True}, True),
        ("smoke", {}, None),
        ("smoke and not test", {"smoke": True, "test": False}, True),
        ("smoke and not test", {"smoke": True, "test": True}, False),
        ("smoke and not test", {"smoke": True}, None),
        ("smoke == false", {"smoke": False}, True),
        ("smoke == True", {"smoke": False}, False),
        ("smoke != test", {"smoke": False, "test": True}, True),
        ("battery_low or battery <= 10 or fault", {"fault": True}, True),
        ("battery_low or battery <= 10 or fault", {"battery_low": False, "battery": 80}, None),
        ("smoke == (battery > 10)", {"smoke": True, "battery": 90}, True),
    ],
)
def test_a_boolean_point_is_its_own_value(source: str, points: dict[str, Scalar], expected: Truth) -> None:
    assert truth(source, SMOKE, **points) is expected


def test_a_condition_that_mentions_an_event_field_says_so() -> None:
    assert compile_condition("action == 'emergency'", BUTTON).uses_event
    assert compile_condition("battery < 5 and action == 'test'", BUTTON).uses_event
    assert not compile_condition("battery < 5", BUTTON).uses_event
    found = compile_condition("label == 'ebike' and score >= 0.6 and type != 'end'", ELEVATOR)
    assert found.names == {"label", "score", "type"}
    assert found.evaluate({"label": "ebike", "score": 1, "type": "new"}) is True


@pytest.mark.parametrize("energy", [10**400, 1e308])
def test_arithmetic_beyond_a_float_is_unknown_and_never_fails(energy: float) -> None:
    assert truth("energy * 1.5 * 1e15 > 0", energy=energy) is None
    assert truth("energy / power > 0", energy=energy, power=1e-9) is None


# Every mistake is told with its column and what was meant


@pytest.mark.parametrize(
    ("source", "column", "reason", "meant"),
    [
        ("temprature >= 65", 1, "charger has no point of this name", "temperature"),
        ("power > 5 and volt < 9", 15, "charger has no point of this name", "voltage"),
        ("power > 5 and smoke", 15, "charger has no point of this name", None),
        ("status == 'charging'", 11, "status is never this; it is one of Available, Charging", "Charging"),
        ("'Fault' != status", 1, "status is never this", "Faulted"),
        ("temperature >= '65'", 1, "temperature is a number, '65' is text", None),
        ("temperature == status", 1, "temperature is a number, status is one of its words", None),
        ("temperature == true", 1, "temperature is a number, True is true or false", None),
        ("status > 'Charging'", 1, "status is one of its words: only == and != make sense", None),
        ("session >= 'a'", 1, "session is text: only == and != make sense", None),
        ("status == error", 1, "status and error have no word in common", None),
        ("temperature >= 650", 16, "temperature is never above 200", None),
        ("-50 < temperature", 1, "temperature is never below -40", None),
        ("temperature", 1, "must be true or false, but is a number", None),
        ("temperature + 5", 1, "must be true or false, but is a number", None),
        ("not temperature", 5, "must be true or false, but is a number", None),
        ("power > 5 and status", 15, "must be true or false, but is one of its words", None),
        ("status + 1 > 5", 1, "arithmetic needs a number, this is one of its words", None),
        ("true", 1, "looks at no point", None),
        ("1 < 2", 1, "compares two constants", None),
        ("power > 5 or true", 14, "looks at no point", None),
        ("power > 5 or 1 < 2", 14, "compares two constants", None),
        ("1 < 2 < power", 1, "compares two constants", None),
        ("power / 0 > 5", 1, "a division by zero", None),
        ("power > 1e999", 9, "a number beyond 1e+15", None),
        ("power > 1e10 * 1e10", 9, "a number beyond 1e+15", None),
        ("power > 1 / 0", 9, "a division by zero", None),
        ("abs(power) > 5", 1, "not part of the rule language: a call", None),
        ("power ** 2 > 5", 1, "not part of the rule language: **", None),
        ("power % 2 > 5", 1, "not part of the rule language: %", None),
        ("+power > 5", 1, "not part of the rule language: a leading +", None),
        ("status in ('Charging', 'Faulted')", 1, "not part of the rule language: in (write: a == 'x'", None),
        ("status is 'Charging'", 1, "not part of the rule language: is (write: ==)", None),
        ("power.real > 5", 1, "not part of the rule language: a dot", None),
        ("power[0] > 5", 1, "not part of the rule language: an index", None),
        ("(power > 5) & (power < 9)", 1, "not part of the rule language: & (write: and)", None),
        ("(lambda: power)() > 5", 1, "not part of the rule language", None),
        ("[p for p in power] == 1", 1, "not part of the rule language", None),
        ("f'{power}' == 'a'", 1, "not part of the rule language: an f-string", None),
        ("power > None", 9, "only numbers, 'text', true and false", None),
        ("power > 5j", 9, "only numbers, 'text', true and false", None),
        ("session == b'a'", 12, "only numbers, 'text', true and false", None),
        ("power = 5", 1, "cannot be read", None),
        ("power >", 8, "cannot be read", None),
        ("power ≥ 5", 7, "cannot be read", None),
        ("power > 65or leakage > 3", 11, "cannot be read", None),
        ("power > 5; import os", 10, "cannot be read", None),
        ("power > 5\0", 1, "cannot be read", None),
        ("'温度' == 'x' or pwr > 5", 1, "compares two constants", None),
        ("session == '温度温度' or pwr > 5", 22, "charger has no point of this name", "power"),
        ("   ", 1, "an empty condition", None),
    ],
)
def test_a_fault_tells_column_reason_and_what_was_meant(
    source: str, column: int, reason: str, meant: str | None
) -> None:
    with pytest.raises(ExpressionError) as told:
        compile_condition(source, CHARGER)
    assert reason in told.value.reason
    if "cannot be read" not in reason:  # there the column is Python's, and moves with its versions
        assert told.value.column == column
    assert told.value.nearest == meant
    assert str(told.value) == f"column {told.value.column}: {told.value.reason}"


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("power \u2265 5", "write >="),
        ("\uff08power > 5\uff09 and leakage > 3", "write ("),
        ("status == \u2018Charging\u2019", "write '"),
        ("rise(temperature, 5m) >= 3", "a duration stands in quotes: '5m'"),
        ("session_age > 10h", "a duration stands in quotes: '10h'"),
        ("status = 'Charging'", "write =="),
        ("power > 5 && leakage > 3", "write and"),
        ("power > 5 || leakage > 3", "write or"),
        ("temperature >= 65\u2103", "leave \u2103 out"),
        ("power > 600 W", "leave W out"),
    ],
)
def test_a_slip_is_told_with_what_to_write(source: str, remedy: str) -> None:
    with pytest.raises(ExpressionError) as told:
        compile_condition(source, CHARGER)
    assert told.value.reason.startswith("cannot be read: ")
    assert told.value.reason.endswith(remedy)


def test_a_word_without_quotes_is_told_with_its_quotes() -> None:
    with pytest.raises(ExpressionError, match="a word stands in quotes: 'Charging'"):
        compile_condition("status == Charging", CHARGER)


@pytest.mark.parametrize(
    "source",
    [
        "power > 1" + " " * LENGTH_LIMIT,
        "(" * 900 + "power > 1" + ")" * 900,
        "-" * 1_900 + "power > 1",
        "not " * 400 + "fault",
        "power" + "+1" * NODE_LIMIT + " > 1",
        "power > " + "9" * 1_900,
        "power > 0x" + "f" * 1_900,
        " or ".join(["power > 1"] * 100),
        "'" + "a" * 1_900,
        "\ud800 > 1",
        "power > 1 \\",
    ],
)
def test_a_hostile_condition_is_refused_and_never_crashes(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile_condition(source, CHARGER)


def test_the_largest_condition_allowed_still_evaluates() -> None:
    half = NODE_LIMIT // 4 - 1
    assert truth(" or ".join(["power > 1"] * half), power=0) is False
    assert truth("not " * (NODE_LIMIT - 4) + "power > 1", power=2) is True


@given(st.text(max_size=60))
def test_any_text_either_compiles_or_is_told_as_a_fault(source: str) -> None:
    with suppress(ExpressionError):
        compile_condition(source, CHARGER)


# Three-valued logic against a naive evaluator


class Telemetry(Struct, frozen=True):
    x: float | None = None
    y: float | None = None
    p: bool | None = None
    q: bool | None = None


ABSTRACT = Vocabulary.of(Kind("abstract", Telemetry))


@dataclass(frozen=True)
class Sum:
    """An arithmetic tree: a leaf, or an operator over two."""

    sign: str
    parts: "tuple[Sum | str | int, ...]"


@dataclass(frozen=True)
class Logic:
    """A tree of conditions: comparisons over sums, points, and/or/not."""

    word: str
    parts: "tuple[Logic | Sum | str | int, ...]"


Tree = Logic | Sum | str | int

LEAVES = st.one_of(st.sampled_from(["x", "y"]), st.integers(-3, 3))
SUMS = st.recursive(
    LEAVES,
    lambda inner: st.builds(lambda sign, a, b: Sum(sign, (a, b)), st.sampled_from("+-*/"), inner, inner),
    max_leaves=4,
)
COMPARISONS = st.builds(
    lambda words, parts: Logic(" ".join(words[: len(parts) - 1]), tuple(parts)),
    st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=3, max_size=3),
    st.lists(SUMS, min_size=2, max_size=4),
)
TREES = st.recursive(
    st.one_of(st.sampled_from(["p", "q"]), COMPARISONS),
    lambda inner: st.one_of(
        st.builds(lambda part: Logic("not", (part,)), inner),
        st.builds(
            lambda word, parts: Logic(word, tuple(parts)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=4),
        ),
    ),
    max_leaves=10,
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "x": st.sampled_from([-2, 0, 0.5, 1, 3.0]),
        "y": st.sampled_from([-1.5, 0, 1, 2]),
        "p": st.booleans(),
        "q": st.booleans(),
    },
)


def written(tree: Tree) -> str:
    match tree:
        case Sum(sign, (a, b)):
            return f"({written(a)} {sign} {written(b)})"
        case Logic("not", (part,)):
            return f"(not {written(part)})"
        case Logic("and" | "or" as word, parts):
            return "(" + f" {word} ".join(map(written, parts)) + ")"
        case Logic(words, parts):
            signs = [*words.split(), ""]
            pairs = zip(parts, signs, strict=True)
            return "(" + " ".join(f"{written(part)} {sign}" for part, sign in pairs) + ")"
    return str(tree)


def number(tree: Tree, values: dict[str, Scalar]) -> float | None:
    match tree:
        case int():
            return tree
        case Sum(sign, (left, right)):
            a, b = number(left, values), number(right, values)
            if a is None or b is None or (sign == "/" and b == 0):
                return None
            result = {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[sign]
            return result if isfinite(result) else None
    return values.get(str(tree))  # type: ignore[return-value]  # x and y are numbers


def judged(tree: Tree, values: dict[str, Scalar]) -> Truth:
    """Kleene's tables, written as minimum and maximum over false < unknown < true."""
    rank = {False: 0, None: 1, True: 2}
    back = (False, None, True)
    match tree:
        case Logic("not", (part,)):
            return back[2 - rank[judged(part, values)]]
        case Logic("and", parts):
            return back[min(rank[judged(part, values)] for part in parts)]
        case Logic("or", parts):
            return back[max(rank[judged(part, values)] for part in parts)]
        case Logic(words, parts):
            found = [number(part, values) for part in parts]
            pairs = zip(found, words.split(), found[1:], strict=False)
            return back[min(rank[compared(a, sign, b)] for a, sign, b in pairs)]
    return values.get(str(tree))  # type: ignore[return-value]  # p and q are booleans


def compared(a: float | None, sign: str, b: float | None) -> Truth:
    if a is None or b is None:
        return None
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[sign]


def compiled(tree: Tree) -> Condition | None:
    """None for a tree that is rightly refused: constant in some part, or too large."""
    try:
        return compile_condition(written(tree), ABSTRACT)
    except ExpressionError as error:
        if any(told in error.reason for told in ("constants", "division", "at most")):
            return None
        raise


@settings(max_examples=400)
@given(TREES, VALUES)
def test_a_compiled_condition_equals_the_naive_evaluator(tree: Tree, values: dict[str, Scalar]) -> None:
    condition = compiled(tree)
    if condition is not None:
        assert condition.evaluate(values) is judged(tree, values), condition.source


@given(TREES, VALUES)
def test_learning_a_point_never_changes_what_was_known(tree: Tree, values: dict[str, Scalar]) -> None:
    condition = compiled(tree)
    if condition is not None:
        full: dict[str, Scalar] = {"x": 1, "y": 2, "p": True, "q": False, **values}
        known = condition.evaluate(values)
        assert known is None or condition.evaluate(full) is known


@settings(max_examples=400)
@given(st.lists(TREES, max_size=4), VALUES)
def test_where_a_guard_says_no_none_of_its_conditions_is_true(
    trees: list[Tree], values: dict[str, Scalar]
) -> None:
    conditions = [condition for condition in map(compiled, trees) if condition is not None]
    if not guard_of(conditions)(values):
        assert not any(condition.evaluate(values) for condition in conditions)


@pytest.mark.parametrize(
    ("source", "points", "answer"),
    [
        ("temperature >= 65", {"temperature": 64.9}, False),
        ("temperature >= 65", {}, False),
        ("temperature >= 65", {"temperature": 65}, True),
        ("not 40 <= temperature < 80", {}, False),
        ("not 40 <= temperature < 80", {"temperature": 80}, True),
        ("status == 'Charging' and not power > 5", {"status": "Charging", "power": 6}, False),
        ("power / current > 250", {"power": 600, "current": 3}, False),
        (
            "power / current > 250",
            {"power": 600, "current": 0},
            True,
        ),  # a division by zero: ask the condition
        ("(power > 5) == false", {"power": 6}, False),
        ("- - -temperature > 5", {"temperature": -6}, True),
    ],
)
def test_a_guard_says_no_to_what_is_false_or_unknown(
    source: str, points: dict[str, Scalar], answer: bool
) -> None:
    assert guard_of([compile_condition(source, CHARGER)])(points) is answer


def test_a_guard_bears_the_deepest_condition() -> None:
    deep = f"temperature > {'(1 + ' * 60}power{')' * 60}"
    assert guard_of([compile_condition(deep, CHARGER)])({"temperature": 90, "power": 1}) is True


# What a rule may speak of


def test_every_point_of_every_kind_is_known_to_rules() -> None:
    for kind in KINDS.values():
        vocabulary = Vocabulary.of(kind)
        schemas = [kind.telemetry, *([kind.event] if kind.event is not None else [])]
        names = {name for schema in schemas for name in schema.__struct_fields__}
        followed = {kind.following.point} if kind.following is not None else set()
        assert set(vocabulary.points) == names | set(kind.rates) | followed
    assert CHARGER.points["status"].sort is Sort.CHOICE
    assert CHARGER.points["temperature_rate"].sort is Sort.NUMBER
    assert (CHARGER.points["voltage"].least, CHARGER.points["voltage"].most) == (0, 500)
    assert ELEVATOR.points["track"].event


def test_a_schema_that_rules_cannot_speak_of_is_refused_with_its_name() -> None:
    class Odd(Struct):
        samples: list[float]

    with pytest.raises(TypeError, match="samples"):
        Vocabulary.of(Kind("odd", Odd))
