"""Message texts: checked when read, harmless when rendered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.kinds import KINDS
from devices.readings import Scalar
from rules.language.texts import LENGTH_LIMIT, VALUE_LIMIT, Language, TextError, compile_text
from rules.vocabulary import Vocabulary

CHARGER, SMOKE, BUTTON, ELEVATOR = (
    Vocabulary.of(KINDS[name]) for name in ("charger", "smoke", "button", "elevator")
)


def repr_of(value: object) -> str:
    return type(value).__name__


def rendered(
    source: str,
    values: dict[str, Scalar],
    vocabulary: Vocabulary = CHARGER,
    language: Language = Language.EN,
) -> str:
    return compile_text(source, vocabulary, language).render(values)


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        (
            "port {device} is at {temperature:.0f} °C",
            {"device": "p7", "temperature": 70.6},
            "port p7 is at 71 °C",
        ),
        ("{temperature:.0f}", {"temperature": 70}, "70"),
        ("{temperature}", {"temperature": 65.300000000000004}, "65.3"),
        ("{temperature}", {"temperature": -0.0001}, "0"),
        ("{energy}", {"energy": 12}, "12"),
        ("{energy}", {"energy": 120.0}, "120"),
        ("{temperature_rate:+.1f}", {"temperature_rate": 1.26}, "+1.3"),
        ("{power:,.0f} W", {"power": 12_345}, "12,345 W"),
        ("{status:>10}", {"status": "Faulted"}, "   Faulted"),
        ("{temperature:.1f} {device} {status}", {}, "– – –"),
        ("{{braces}} {device}", {"device": "p7"}, "{braces} p7"),
        ("no name at all", {}, "no name at all"),
    ],
)
def test_a_text_shows_its_values(source: str, values: dict[str, Scalar], expected: str) -> None:
    assert rendered(source, values) == expected


def test_booleans_are_said_in_the_language_of_the_text() -> None:
    assert rendered("{smoke} {muted}", {"smoke": True, "muted": False}, SMOKE) == "yes no"
    assert rendered("{smoke} {muted}", {"smoke": True, "muted": False}, SMOKE, Language.ZH) == "是 否"


def test_the_place_is_one_phrase_of_what_is_known() -> None:
    home: dict[str, Scalar] = {"building": "3", "unit": "2", "place_floor": "11", "room": "1102"}
    assert rendered("{place}", home) == "building 3, unit 2, floor 11, room 1102"
    assert rendered("{place}", home, language=Language.ZH) == "3号楼2单元11层1102室"
    assert rendered("{place}", {"building": "shed-1"}) == "shed-1"
    assert rendered("{place}", {"building": "shed-1", "unit": "2"}, language=Language.ZH) == "shed-1 2单元"
    assert rendered("{place}", {}) == "place not registered"
    assert rendered("{place}", {}, language=Language.ZH) == "位置未登记"


def test_the_floor_of_a_lift_is_where_its_car_is_and_place_floor_where_it_hangs() -> None:
    assert rendered("{floor:.0f} {place_floor}", {"floor": -1, "place_floor": "33"}, ELEVATOR) == "-1 33"
    assert rendered("{floor}", {"floor": "11"}, SMOKE) == "11"


@pytest.mark.parametrize(
    ("source", "vocabulary", "reason", "meant"),
    [
        ("{temprature}", CHARGER, "a text about charger has no such name", "temperature"),
        ("{smoke}", CHARGER, "a text about charger has no such name", None),
        ("{buildin}", CHARGER, "a text about charger has no such name", "building"),
        ("{}", CHARGER, "one name", None),
        ("{0}", CHARGER, "one name", None),
        ("{device.__class__}", CHARGER, "one name", None),
        ("{device[0]}", CHARGER, "one name", None),
        ("{device!r}", CHARGER, "! is not part of a text", None),
        ("{temperature:{power}}", CHARGER, "not a format code", None),
        ("{temperature:d}", CHARGER, "does not fit a number", None),
        ("{temperature:s}", CHARGER, "does not fit a number", None),
        ("{temperature:%H}", CHARGER, "not a format code", None),
        ("{status:.0f}", CHARGER, "does not fit text", None),
        ("{device:d}", CHARGER, "does not fit text", None),
        ("{smoke:.1f}", SMOKE, "does not fit text", None),
        ("{temperature:9999999}", CHARGER, "a width of at most 64", None),
        ("{temperature:.9999999f}", CHARGER, "a width of at most 64", None),
        ("{temperature:65}", CHARGER, "a width of at most 64", None),
        ("{temperature", CHARGER, "braces do not match", None),
        ("temperature}", CHARGER, "braces do not match", None),
        ("{worn}", BUTTON, "daily life", None),
        ("", CHARGER, "an empty text", None),
        ("two\nlines", CHARGER, "one line", None),
        ("\ud800", CHARGER, "one line", None),
        ("a" * (LENGTH_LIMIT + 1), CHARGER, "at most 500", None),
    ],
)
def test_a_text_that_cannot_be_rendered_is_refused_when_read(
    source: str, vocabulary: Vocabulary, reason: str, meant: str | None
) -> None:
    with pytest.raises(TextError) as told:
        compile_text(source, vocabulary, Language.EN)
    assert reason in told.value.reason
    assert told.value.nearest == meant


def test_an_event_field_is_refused_in_the_text_of_a_rule_that_looks_at_no_event() -> None:
    assert compile_text("{action}", BUTTON, Language.EN).render({"action": "test"}) == "test"
    with pytest.raises(TextError, match="only in an event"):
        compile_text("{action}", BUTTON, Language.EN, events=False)


def test_a_device_cannot_make_a_text_long_or_break_its_line() -> None:
    said = rendered("session {session}.", {"session": "a\nb\u202e" + "c" * 300})
    assert said.isprintable()
    assert len(said) < VALUE_LIMIT + 20
    assert len(rendered("{energy:.0f}", {"energy": 1e300})) <= VALUE_LIMIT


@pytest.mark.parametrize(
    "value", [10**400, 1 << 20_000, float("inf"), float("nan"), "text", True], ids=repr_of
)
@pytest.mark.parametrize("source", ["{energy}", "{energy:.0f}", "{energy:5.1f}"])
def test_a_value_that_no_decoder_lets_through_cannot_fail_a_text(source: str, value: Scalar) -> None:
    assert len(rendered(source, {"energy": value})) <= VALUE_LIMIT


@given(
    st.text("{}:.!d0f device[]", max_size=20),
    st.dictionaries(st.sampled_from(["device", "energy", "status"]), st.text() | st.floats() | st.integers()),
)
def test_whatever_is_accepted_renders(source: str, values: dict[str, Scalar]) -> None:
    try:
        text = compile_text(source, CHARGER, Language.ZH)
    except TextError:
        return
    assert isinstance(text.render(values), str)
