"""What a story's report says in Chinese has Chinese words, figures with units and one way to write a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.kinds import KINDS
from edge import error_words
from rules.language.texts import Language
from rules.wording import withheld_line
from simulators import causes
from simulators.details import COMMANDS, answer, chinese_moment, moment, parameters, readings, whose
from simulators.device import Happening
from simulators.fleet import MODELS
from simulators.line import LINE_FAULTS
from simulators.spans import write_moment
from simulators.telling import cause_line, order_line, word
from simulators.verdicts import Ordered

EN, ZH = Language.EN, Language.ZH


def told(verb: str, name: str, **given_: float) -> tuple[str, str]:
    cause = causes.Cause(5.0, Happening(verb, name, given_), ("d1",), "d1")
    return cause_line(cause, EN), cause_line(cause, ZH)


@pytest.mark.parametrize(
    ("line", "en", "zh"),
    [
        (
            told("fault", "overheat", rate=0.9, limit=110),
            "d1: fault overheat, rate 0.9 °C/s, limit 110 °C",
            "d1：故障 接触不良发热，速率 0.9 °C/s，上限 110 °C",
        ),
        (told("action", "test", **{"for": 1500}), "d1: action test, for 25m", "d1：操作 测试，持续 25分"),
        (told("fault", "silent", **{"for": float("inf")}), "d1: fault silent", "d1：故障 无消息"),
        (told("fault", "lossy", share=0.2), "d1: fault lossy, share 20%", "d1：故障 丢包，比例 20%"),
        (told("power", "cut"), "d1: power cut", "d1：停电"),
        (told("power", "back"), "d1: power back", "d1：来电"),
        (told("fault", "none"), "d1: fault none", "d1：恢复正常"),
    ],
)
def test_what_happens_has_its_units_in_both_languages(line: tuple[str, str], en: str, zh: str) -> None:
    assert line == (en, zh)


def test_readings_are_named_in_the_language_of_the_report() -> None:
    points: dict[str, bool | int | float | str | None] = {
        "battery_low": True,
        "battery": 3.0,
        "door": "open",
        "leakage": None,
    }
    assert readings(points, EN) == "battery_low true, battery 3%, door open, leakage –"
    assert readings(points, ZH) == "电池电量低 是，电池电量 3%，门 开，漏电 –"


def test_what_a_device_answers_to_an_order_is_in_the_language_of_the_report() -> None:
    order = Ordered(5.0, "b1", "confirm", {}, "done", "the person was told")
    assert order_line(order, ZH) == "指令 b1：告知本人（已执行，已告知本人）"
    assert answer("the relay is welded, power still flows", ZH) == "继电器粘连，仍在供电"
    assert answer("still 80 °C, below 40 first", ZH) == "仍为 80 °C，须先降至 40 °C 以下"
    assert order_line(order, EN) == "order     b1: confirm (done, the person was told)"


def test_every_command_point_happening_and_parameter_has_a_chinese_word() -> None:
    acting = [kind for kind in KINDS.values() if kind.on_wire]
    assert {name for kind in acting for name in kind.commands} <= COMMANDS.keys()
    for kind in acting:
        for name in kind.telemetry.__struct_fields__:
            assert not readings({name: 1}, ZH).startswith(name)
    for happenings in [{"fault": LINE_FAULTS}, *(model.happenings for model in MODELS.values())]:
        for verb, names in happenings.items():
            for name, known in names.items():
                assert word(name, ZH) != name
                for key in known:
                    assert f"，{key}" not in parameters(verb, name, {key: 1.0}, ZH)


def test_times_are_written_one_way_in_chinese() -> None:
    seconds = (0, 8, 20.5, 70, 735, 3600, 93_601.6)
    assert [moment(one, ZH) for one in seconds] == [
        "0秒", "8秒", "20.5秒", "1分10秒", "12分15秒", "1时", "1天2时1.6秒",
    ]  # fmt: skip


@given(st.floats(0, 1e7))
def test_every_time_that_the_judge_writes_is_read_back_into_the_same_chinese_time(seconds: float) -> None:
    assert chinese_moment(write_moment(seconds)) == moment(seconds, ZH)


def test_devices_are_named_by_kind_and_place_in_the_language_of_the_report() -> None:
    assert whose("s1, s2", ZH) == "s1、s2"
    assert whose("kind smoke, building 3 (2)", ZH) == "类型 smoke、楼栋 3 (2)"
    assert whose("kind smoke, building 3", EN) == "kind smoke, building 3"


def test_a_word_is_no_time() -> None:
    assert chinese_moment("raised") is None


def test_why_an_order_is_withheld_is_told_in_chinese_by_the_report_and_by_the_shell() -> None:
    guards = {command.only_if_false for kind in KINDS.values() for command in kind.commands.values()} - {None}
    reasons = [f"{guard} is {known}" for guard in guards for known in ("true", "unknown")]
    for reason in (*reasons, "charger-leakage stands, for which cut_power was ordered"):
        assert withheld_line(reason, ZH) != reason
        assert error_words.told(f"hold_door would be unsafe now: {reason}", ZH).endswith(
            withheld_line(reason, ZH)
        )
    assert withheld_line("no siren is registered in the same unit", ZH) == "同一位置（单元）未登记 siren"
