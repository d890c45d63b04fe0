"""``anlin rules test``: the report that people read, JUnit XML, exit codes."""

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge.cli import main
from rules.language.texts import Language
from rules.wording import mismatch_line
from simulators.differences import difference
from simulators.phrases import why_in
from simulators.scenario import SHIPPED
from simulators.seen_alarms import SeenAlarm

GOOD = """
name: good
description: {en: It gets warm, zh: 变热了}
devices: [{kind: charger, id: p1, building: shed-1}]
timeline: [{at: 5s, as: wet, device: p1, set: {leakage: 45}, note: on purpose}]
expect: [{alarm: charger-leakage, device: p1, severity: high, within: 12s}]
"""
WRONG = """
name: wrong
devices: [{kind: charger, id: p1, building: shed-1}]
timeline: [{at: 5s, device: p1, set: {leakage: 45}}]
expect:
  - {alarm: charger-leakage, device: p1, within: 2s}
never: ["*-leakage"]
only: expected
duration: 20s
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANLIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("english.yaml").write_text("language: en")
    Path("stories").mkdir()
    Path("stories/good.yaml").write_text(GOOD, encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["rules", "test", *argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_report_says_what_happened_what_was_expected_when_it_came_and_whether_that_is_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = said(capsys, "--scenario", "stories", "--config", "english.yaml")
    assert (code, err) == (0, "")
    for told in (
        "TEST REPORT of alarm rules",
        "PASS  rules/packs/smoke.yaml: ",
        "[1/1] good  PASS",
        "It gets warm",
        "stories/good.yaml · 1 devices · begins 2026-11-18 09:00 CST · lasts 0:00:27 · seed 0",
        "0:00:05  09:00:05  * p1: reads leakage 45 mA (on purpose)",
        "0:00:08  09:00:08    raised    charger-leakage of p1 (high, unacked) Leakage or ground fault",
        " at charging port p1 (measured: 45 mA; ",
        "PASS  charger-leakage of p1 raised by 17 s [severity high] → came at 8 s, after 3 s",
        "scenarios: 1 of 1 pass",
    ):
        assert told in out, out


def test_the_report_is_in_chinese_where_the_gateway_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--scenario", "stories/good.yaml")
    assert code == 0
    for told in (
        "报警规则测试报告",
        "变热了",
        "事件经过",
        "p1：读数变为 漏电 45 mA（on purpose）",
        "报警 charger-leakage / p1（重要，未确认）充电口 p1 漏电",
        "通过  charger-leakage / p1 在 17秒 前报警（级别 重要） → 出现于 8秒，3秒后",
    ):
        assert told in out, out


def test_what_fails_is_told_with_what_came_instead_and_ends_with_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("stories/wrong.yaml").write_text(WRONG)
    code, out, err = said(capsys, "--scenario", "stories", "--config", "english.yaml", "--junit", "j.xml")
    assert code == 1
    assert "FAIL  charger-leakage of p1 raised by 7 s → charger-leakage of p1 raised, too late at 8 s" in out
    assert "FAIL  never *-leakage raised → charger-leakage of p1 raised at 8 s" in out
    assert "scenarios: 1 of 2 pass\n  FAIL\n" in out
    assert "wrong: charger-leakage of p1 raised by 7 s: " in err
    assert err.count("good:") == 0
    suites = ET.parse("j.xml").getroot()  # noqa: S314 - it is our own
    cases = {case.get("name"): case for case in suites.iter("testcase")}
    assert cases["good"].find("failure") is None
    assert "too late" in str(cases["wrong"].findtext("failure"))
    assert cases["smoke-alarm"].get("classname") == "rules/packs/smoke.yaml"
    scenarios = next(suite for suite in suites if suite.get("name") == "scenarios")
    assert (scenarios.get("tests"), scenarios.get("failures")) == ("2", "1")


def test_a_rule_that_a_story_names_and_no_rule_set_has_is_a_fault_of_the_story(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("stories/typo.yaml").write_text(
        """
name: typo
devices: [{kind: smoke, id: s1, building: "1"}]
timeline: [{at: 5s, acknowledge: smoke-alrm}]
initial: [{acknowledge: smoke-tets}]
expect: [{alarm: smoke-tampr, device: s1, within: 9s}]
never:
  - {alarm: smoke-alrm, device: s1}
  - smoke-dsty
  - "smoke-*"
only: [{rule: smoek-*}]
"""
    )
    code, out, err = said(capsys, "--scenario", "stories")
    assert (code, out) == (2, "")
    reason = "no rule that is read has this id"
    for told in (
        f"stories/typo.yaml:4: timeline[0].acknowledge: {reason} (is 'smoke-alrm'); did you mean 'smoke-alarm'?",
        f"stories/typo.yaml:5: initial[0].acknowledge: {reason} (is 'smoke-tets'); did you mean 'smoke-test'?",
        f"stories/typo.yaml:6: expect[0].alarm: {reason} (is 'smoke-tampr'); did you mean 'smoke-tamper'?",
        f"stories/typo.yaml:8: never[0].alarm: {reason} (is 'smoke-alrm'); did you mean 'smoke-alarm'?",
        f"stories/typo.yaml:9: never[1].alarm: {reason} (is 'smoke-dsty'); did you mean 'smoke-dusty'?",
        f"stories/typo.yaml:11: only[0].rule: {reason} (is 'smoek-*')",
    ):
        assert told in err, err
    assert err.count(reason) == 6


def test_a_report_goes_into_a_file_and_a_summary_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--scenario", "stories", "--config", "english.yaml", "--report", "r.txt")
    assert code == 0
    assert "What happened" in Path("r.txt").read_text("utf-8")
    assert "What happened" not in out
    assert "PASS  good: 1 expectations, 0:00:27" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--scenario", "none"), "no such file, and no shipped scenario of that name"),
        (("--scenario", "bad.yaml"), "bad.yaml:1: nam: unknown key"),
        (("--scenario", "empty"), "there is no scenario (*.yaml) in this folder"),
        (("--scenario", "stories", "--report", "no/such/r.txt"), "no/such/r.txt: cannot be written"),
        (("none.yaml", "--scenario", "stories"), "none.yaml: does not exist"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_fault_and_ends_with_two(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.yaml").write_text("nam: x\ndevices: {smoke: 1}\n")
    Path("empty").mkdir()
    code, _, err = said(capsys, *arguments)
    assert code == 2
    assert told in err
    assert "Traceback" not in err


def test_why_something_was_missed_and_what_changed_are_told_in_chinese() -> None:
    zh = Language.ZH
    for why in (
        "smoke-alarm of s1 cleared, before at 24d 8:51:40.3",
        "smoke-alarm of s1 raised, too late at 10 s",
        "smoke-alarm of s1 raised at 10 s, too early",
        "smoke-alarm of s1 raised at 10 s, 3 by now",
        "raised with severity high at 10 s",
        "raised for the 2. time at 10 s",
        "raised not late at 10 s",
        "smoke-alarm of s1 is unacked, high, 2×",
        "2 came; smoke-alarm of s1 raised, too late at 10 s",
        "nothing of it stands",
    ):
        assert not re.search(r"\b(of|at|is|raised|cleared|late|high|came)\b", why_in(zh, why)), why_in(
            zh, why
        )
        assert why_in(Language.EN, why) == why
    before = SeenAlarm("1", "r", "smoke", "s1", "high", "unacked")
    after = replace(before, state="suppressed", suppressed_by="cut:c1/charger/p1", folded_into="2")
    assert difference(before, after, Language.EN) == (
        "suppressed, cut:c1/charger/p1 explains it; told together with others"
    )
    assert difference(after, before, zh) == "不再抑制；恢复单独通知"
    fold = replace(before, members=("a", "b"))
    assert difference(replace(fold, members=("a",)), fold, zh) == "包含 2 条告警，此前 1 条"
    assert mismatch_line("f.yaml: hot: it raises: raised did not come at 10s", "zh") == (
        "f.yaml: hot: it raises：10s 应有“报警”，没有出现"
    )
    assert mismatch_line(
        "f.yaml: hot: it raises: cleared of p2 as rtn_unacked did not come at 10s", "zh"
    ) == ("f.yaml: hot: it raises：10s p2 应有“恢复”（已恢复，待确认），没有出现")


OWN = """
rules:
  - id: port-lukewarm
    kind: charger
    when: temperature >= 25
    severity: low
    text: {en: lukewarm, zh: 微热}
    examples:
      - name: it raises
        readings: [{at: 0s, temperature: 26}]
        expect: [{at: 0s, change: raised}]
"""


def test_a_rule_of_ones_own_is_a_remark_in_a_shipped_story_and_a_failure_in_a_strict_one_of_ones_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("own.yaml").write_text(OWN, encoding="utf-8")
    shipped = (SHIPPED / "leakage-and-voltage.yaml").read_text("utf-8")
    code, out, err = said(capsys, "own.yaml", "--scenario", "leakage-and-voltage", "--config", "english.yaml")
    assert (code, err) == (0, "")
    assert "  PASS  nothing else is raised\n          your rule port-lukewarm also goes off here: " in out
    assert "expectations, your rule port-lukewarm also goes off, " in out
    assert (
        "您自己的规则 port-lukewarm 在此也会报警："
        in said(capsys, "own.yaml", "--scenario", "leakage-and-voltage")[1]
    )

    assert (
        "because of that alarm-flood goes off: gw-1"
        in said(capsys, "own.yaml", "--scenario", "quiet", "--config", "english.yaml")[1]
    )
    for forbidding_any in ("charging-evening", "sounders-lost", "quiet"):
        assert said(capsys, "own.yaml", "--scenario", forbidding_any)[0] == 0

    Path("strict.yaml").write_text(shipped, encoding="utf-8")
    code, out, err = said(capsys, "own.yaml", "--scenario", "strict.yaml", "--config", "english.yaml")
    assert code == 1
    assert "FAIL  nothing else is raised" in out
    assert "port-lukewarm / " in err
    assert "your rule" not in out
