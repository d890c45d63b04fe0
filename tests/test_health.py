"""The reasons of health are a closed list: in the code, as points, as alarms, on the page of the docs and the board."""

import re
from pathlib import Path

import pytest

from devices.kinds import KINDS
from edge.checking import load_rules
from edge.health import ALARMING, FAILS, NOTICES, REMEDIES, Code, Lately, Reason, reason, status_of
from edge.settings import Config
from rules.definitions import Rule

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "health.md").read_text("utf-8")
WORDS = (ROOT / "edge" / "web" / "static" / "words.js").read_text("utf-8")
RULES = {rule.id: rule for rule in load_rules(Config()).rules if rule.kind == "gateway"}


def rows() -> dict[str, tuple[str, str]]:
    """The table of the page: reason to whether it fails, and its alarm."""
    found = re.findall(r"^\| `(\w+)` \| (yes|–) \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(found) == len({code for code, _, _ in found})
    return {code: (fails, alarm) for code, fails, alarm in found}


def test_what_differs_on_disk_names_the_command_that_finds_faults() -> None:
    assert "anlin rules check" in REMEDIES[Code.RULES_DIFFER]  # the one that applies is in the message


def test_every_reason_has_one_remedy_one_row_and_its_words_on_the_board() -> None:
    assert set(REMEDIES) == set(Code)
    assert set(rows()) == {code.value for code in Code}
    for code in Code:
        assert len(re.findall(rf"^    {code}: \[", WORDS, re.MULTILINE)) == 2, code  # in both languages


def test_every_reason_but_a_notice_is_one_point_and_one_alarm_and_no_alarm_is_without_reason() -> None:
    points = set(KINDS["gateway"].telemetry.__struct_fields__)
    raised_by = {rule.id: str(rule.when.source) for rule in RULES.values() if rule.when is not None}
    assert sorted(raised_by.values()) == sorted(code.value for code in ALARMING)
    assert {code.value for code in ALARMING} <= points
    assert not {code.value for code in NOTICES} & points
    assert raised_by["gateway-store-failed"] == Code.STORE_FAILING


def test_the_page_names_each_alarm_its_severity_and_what_fails() -> None:
    for code, (fails, alarm) in rows().items():
        assert (fails == "yes") == (code in FAILS)
        if code in NOTICES:
            assert "notice" in alarm
            continue
        named = re.fullmatch(r"`([a-z-]+)`, (\w+)(?:, after \S+)?", alarm)
        assert named is not None
        rule = RULES[named[1]]
        assert rule.when is not None
        assert (rule.when.source, rule.severity.value) == (code, named[2])
        assert ("after" in alarm) == bool(rule.for_ms)


@pytest.mark.parametrize("found", RULES.values(), ids=list(RULES))
def test_what_heals_by_itself_leaves_the_board_by_itself_and_what_does_not_waits(found: Rule) -> None:
    assert found.ack_required is found.severity.needs_acknowledgement
    assert not found.latch
    assert found.clear is None  # over when the reason is over


def test_notices_alone_degrade_nothing() -> None:
    assert status_of([reason(Code.EMBEDDED_BROKER, "so")]) == "ok"
    assert status_of([reason(Code.WEB_DOWN, "so")]) == "degraded"
    assert status_of([reason(Code.WEB_DOWN, "so"), reason(Code.CANNOT_DECIDE, "so")]) == "failed"
    assert reason(Code.WEB_DOWN, "so") == Reason(Code.WEB_DOWN, "so", REMEDIES[Code.WEB_DOWN])


def test_what_only_counts_up_is_over_some_time_after_the_last() -> None:
    lately = Lately(5, 1_000)
    assert not lately.grew(5, 0)
    assert lately.grew(6, 100)
    assert lately.grew(6, 1_099)
    assert not lately.grew(6, 1_100)
    assert not lately.grew(0, 1_200)  # begun anew
    assert lately.grew(1, 1_300)
