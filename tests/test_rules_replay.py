"""Rules tried on the gateway's own history: the same engine, the same alarms, at the same times."""

import json
import os
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Address
from edge.cli import main
from edge.history.compaction import Limits, compact
from edge.replay.moments import moment, span
from edge.replay.report import Report, lines_of
from edge.replay.source import exact_from
from edge.replay.trial import Found, Progress, Span, Trial, run
from edge.replay.workers import run_all
from edge.store.schema import FILE
from rules.alarms import Transition
from rules.decisions import CatchingUp, ClockStepped, Decision, Input, Listening
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.outcomes import joined
from rules.reach import Reach, look_back_ms, reach_of
from tests.gateway import ANLIN, ROOT, gone
from tests.rule_world import MINUTE, STORY, T0, lived, reading, rules, warm
from tests.waiting import PATIENCE_S, eventually

HOUR = 60 * MINUTE


def trial(
    folder: Path,
    *rule_sets: RuleSet,
    from_ms: int = T0,
    to_ms: int = T0 + 24 * HOUR,
    warm_up_ms: int = 0,
    shards: int = 1,
) -> Trial:
    def engine_of(rules: RuleSet) -> Engine:
        return Engine(rules, site="c1", node="gw-1")

    def shard_of(address: Address) -> int:
        return crc32(address.encode()) % shards

    return Trial(folder, Span(from_ms, to_ms, warm_up_ms), rule_sets, engine_of, shard_of, shards)


def ignored(_progress: Progress) -> None:
    """Nobody looks."""


def raised_and_cleared(decisions: Sequence[Decision]) -> set[tuple[str, str, int]]:
    """What happened, without what a person's acts or the board's memory make of it."""
    return {
        (change.alarm.key, "cleared" if change.transition is Transition.CLEARED else "raised", change.at)
        for decision in decisions
        for change in decision.changes
        if change.transition in (Transition.RAISED, Transition.RERAISED, Transition.CLEARED)
    }


DEVICES = ("c1/charger/p1", "c1/charger/p2", "c1/button/b1", "c1/elevator/l1", "c1/smoke/s1")

SAYINGS = st.sampled_from([
    (0, {"temperature": 20}), (0, {"temperature": 62}), (0, {"temperature": 70}), (1, {"temperature": 66}),
    (1, {"temperature": 30}), (2, {"action": "emergency"}), (3, {"type": "new", "track": "a", "label": "ebike"}),
    (3, {"type": "end", "track": "a"}), (4, {"smoke": True}), (4, {"smoke": False}), (4, {"smoke": True, "test": True}),
    (5, {}), (6, {}), (7, {}), (8, {}),
])  # fmt: skip
LIVES = st.lists(st.tuples(st.integers(0, 200), SAYINGS), max_size=60)


def inputs_of(life: Sequence[tuple[int, tuple[int, dict[str, object]]]]) -> tuple[list[Input], int]:
    at, inputs = T0, list[Input]()
    for step_s, (who, values) in life:
        at += step_s * 1_000
        match who:
            case 5:
                inputs += [Listening(on=False, at=at), CatchingUp(on=True, at=at)]
            case 6:
                inputs.append(Listening(on=True, at=at))
            case 7:
                inputs.append(CatchingUp(on=False, at=at))
            case 8:
                inputs.append(ClockStepped(2_000, at))
                at += 2_000
            case _:
                inputs.append(reading(at, DEVICES[who], **values))  # type: ignore[arg-type]
    return inputs, at + 20 * MINUTE


@given(LIVES)
@settings(max_examples=30, deadline=None)
def test_replay_of_a_journaled_run_gives_the_alarms_that_it_gave(
    life: list[tuple[int, tuple[int, dict[str, object]]]],
) -> None:
    inputs, until = inputs_of(life)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = raised_and_cleared(lived(folder, STORY, inputs, until))
        for shards in (1, 3):
            parts = [
                run(trial(folder, rules(STORY), shards=shards), shard, ignored) for shard in range(shards)
            ]
            report = Report.of(Span(T0, until, 0), ["story"], parts, 1.0)
            outcomes = report.outcomes[0]
            assert sum(each.raised for each in outcomes.values()) == sum(
                what == "raised" for _, what, _ in live
            )
            assert sum(each.cleared for each in outcomes.values()) == sum(
                what == "cleared" for _, what, _ in live
            )
            for rule, outcome in outcomes.items():
                moments = [at for key, what, at in live if what == "raised" and key.startswith(f"{rule}:")]
                assert (outcome.first and outcome.first.at) == min(moments, default=None)
                assert (outcome.last and outcome.last.at) == max(moments, default=None)


def test_a_delay_that_began_before_the_time_is_there_and_nothing_before_it_is_counted(tmp_path: Path) -> None:
    said = [reading(T0, "c1/charger/p1", temperature=70), reading(T0 + MINUTE, "c1/charger/p2", temperature=70),
            reading(T0 + 2 * MINUTE, "c1/charger/p1", temperature=20)]  # fmt: skip
    lived(tmp_path, warm(delay="90s"), said, T0 + HOUR)
    chosen = rules(warm(delay="90s"))
    assert look_back_ms(chosen.rules) == 90_000
    begin = T0 + MINUTE + 30_000  # p1's delay runs out just then, p2's later
    found = run(trial(tmp_path, chosen, from_ms=begin, warm_up_ms=90_000), 0, ignored)
    outcome = found.outcomes[0]["warm"]
    assert (outcome.raised, outcome.cleared, outcome.open, outcome.before) == (2, 1, 1, 0)
    assert (found.readings, found.warmed) == (2, 2)
    found = run(trial(tmp_path, chosen, from_ms=begin + 1, warm_up_ms=90_001), 0, ignored)
    outcome = found.outcomes[0]["warm"]
    assert (outcome.raised, outcome.cleared, outcome.before) == (1, 1, 1)
    without = run(trial(tmp_path, chosen, from_ms=begin + 1), 0, ignored).outcomes[0]["warm"]
    assert without.raised == 0


def test_what_was_silent_after_the_end_of_the_history_nobody_claims(tmp_path: Path) -> None:
    lived(tmp_path, STORY, [reading(T0, "c1/charger/p1", temperature=20)], T0 + 4 * MINUTE)
    found = run(trial(tmp_path, rules(STORY)), 0, ignored)
    assert found.until == T0 + 4 * MINUTE
    assert found.outcomes[0]["quiet"].raised == 0


def test_two_versions_are_compared_alarm_by_alarm(tmp_path: Path) -> None:
    said: list[Input] = []
    for number in range(20):
        at = T0 + number * MINUTE
        said.append(reading(at, f"c1/charger/p{number}", temperature=61 + number % 2 * 10))
        said.append(reading(at + 30_000, f"c1/charger/p{number}", temperature=20))
    lived(tmp_path, warm(), said, T0 + HOUR)
    later = rules(warm(limit=65, delay="5s"))
    parts = run_all(trial(tmp_path, later, rules(warm()), shards=2), lambda *_: None)
    report = Report.of(Span(T0, T0 + HOUR, 0), ["new", "old"], parts, 1.0)
    difference = report.differences["warm"]
    assert (difference.same, difference.shifted, difference.only) == (0, 10, (0, 10))
    assert [each.address for each in difference.examples[1]] == [f"c1/charger/p{n}" for n in (0, 2, 4, 6, 8)]
    assert report.outcomes[0]["warm"].orders == {}
    same = run_all(trial(tmp_path, rules(warm()), rules(warm())), lambda *_: None)
    assert not same[0].differences["warm"].any
    assert same[0].differences["warm"].same == 20


def test_rules_of_one_version_only_are_named(tmp_path: Path) -> None:
    lived(tmp_path, STORY, [reading(T0, "c1/charger/p1", temperature=90)], T0 + HOUR)
    parts = [run(trial(tmp_path, rules(STORY), rules(warm())), 0, ignored)]
    report = Report.of(Span(T0, T0 + HOUR, 0), ["story", "warm"], parts, 1.0)
    assert report.only_in(0) == ["hot", "quiet", "press", "ebike", "fire"]
    assert report.only_in(1) == []
    assert report.outcomes[0]["hot"].orders == {"cut_power": 1}


SIREN = """
rules:
  - id: loud
    kind: charger
    when: temperature >= 80
    severity: critical
    text: {en: hot, zh: 热}
    actions: [{command: sound, to: {kind: siren, same: building}, args: {tone: fire, seconds: 60}}]
"""


@pytest.mark.parametrize(("language", "told"), [("en", "nobody there to obey"), ("zh", "没有可执行的设备")])
def test_an_order_without_anybody_to_obey_is_not_told_as_unsafe_alone(
    tmp_path: Path, language: str, told: str
) -> None:
    lived(tmp_path, SIREN, [reading(T0, "c1/charger/p1", temperature=90)], T0 + HOUR)
    parts = [run(trial(tmp_path, rules(SIREN)), 0, ignored)]
    report = Report.of(Span(T0, T0 + HOUR, 0), ["siren"], parts, 1.0)
    assert report.outcomes[0]["loud"].withheld == 1
    assert told in "\n".join(lines_of(report, language, "Asia/Shanghai"))


def test_what_rules_look_at_together_stays_together() -> None:
    assert reach_of(rules(STORY).rules) is Reach.DEVICE
    assert look_back_ms(rules(STORY).rules) == 600_000  # a smoke sensor's test is believed so long


# --- moments ------------------------------------------------------------------------------------------------


def test_a_moment_is_written_in_four_ways() -> None:
    now = T0
    assert moment("now", now, "UTC") == now
    assert moment("-24h", now, "UTC") == now - 24 * HOUR
    assert moment("-1.5d", now, "UTC") == now - 36 * HOUR
    assert moment("1970-01-02", now, "Asia/Shanghai") == 16 * HOUR
    assert moment("1970-01-02T00:00Z", now, "Asia/Shanghai") == 24 * HOUR
    assert span("90s") == 90_000
    for wrong in ("yesterday", "-24", "24h", ""):
        with pytest.raises(ValueError, match="write now, a span"):
            moment(wrong, now, "UTC") if wrong != "-24" else moment("x", now, "UTC")
    with pytest.raises(ValueError, match="write 90s"):
        span("ten minutes")


@pytest.mark.parametrize(
    "far", ["-99999999999999w", f"-{'9' * 400}d", "0001-01-01", "9999-12-31T23:59:59-12:00"]
)
def test_a_moment_beyond_all_history_is_refused_and_not_asked_for(far: str) -> None:
    with pytest.raises(ValueError, match="100 years"):
        moment(far, T0, "Asia/Shanghai")


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway's folder with an hour of history, without a gateway."""
    monkeypatch.chdir(tmp_path)
    said: list[Input] = [
        reading(T0 + number * 1_000, f"c1/charger/p{number % 50}", temperature=20 + number % 60)
        for number in range(3_000)
    ]
    lived(tmp_path / "data", warm(), said, T0 + HOUR, size=100)
    (tmp_path / "new.yaml").write_text(warm(limit=70), encoding="utf-8")
    (tmp_path / "old.yaml").write_text(warm(), encoding="utf-8")
    (tmp_path / "anlin.yaml").write_text("language: en\ntimezone: UTC\n", encoding="utf-8")
    return tmp_path


WHEN = ("--from", "2026-09-21T13:00Z", "--to", "2026-09-22")


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(argv)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_replay_says_per_rule_what_would_have_been_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256((here / "data" / FILE).read_bytes()).hexdigest()
    code, out, err = said(capsys, "rules", "replay", "--rules", "old.yaml", *WHEN)
    assert (code, err) == (0, "")
    assert "3,001 readings of 51 devices" in out
    assert "  warm: raised 510, cleared 490, at the end 20\n" in out
    assert "first 09-21 14:14:00 c1/charger/p40" in out
    assert "per day: 2026-09-21 510" in out
    code, out, _ = said(
        capsys, "rules", "replay", "--rules", "new.yaml", "--compare", "old.yaml", *WHEN, "--jobs", "2"
    )
    assert "difference between new.yaml and old.yaml:" in out
    assert "  warm: raised 510 with old.yaml, 500 with new.yaml; 500 the same, 0 at another time\n" in out
    assert sha256((here / "data" / FILE).read_bytes()).hexdigest() == before


def test_rules_that_a_file_names_run_beside_it_as_they_are_in_force_and_are_not_told_of(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = warm(limit=70).replace("severity: low", "severity: low\n    suppressed_by: [charger-hot]")
    (here / "mine.yaml").write_text(mine, encoding="utf-8")
    code, out, err = said(capsys, "rules", "replay", "--rules", "mine.yaml", *WHEN)
    assert (code, err) == (0, "")
    assert "mine.yaml (beside charger-" in out
    assert "  warm: raised 500" in out
    assert "charger-hot:" not in out
    (here / "mine.yaml").write_text(mine.replace("charger-hot", "charger-hott"), encoding="utf-8")
    code, _, err = said(capsys, "rules", "replay", "--rules", "mine.yaml", *WHEN)
    assert code == 2
    assert "no rule of this id" in err


def test_replay_speaks_chinese_and_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "anlin.yaml").write_text("timezone: UTC\n", encoding="utf-8")
    _, out, _ = said(capsys, "rules", "replay", "--rules", "old.yaml", "--compare", "new.yaml", *WHEN)
    assert "warm：触发 510 次，恢复 490 次" in out
    assert "old.yaml”与“new.yaml”的差别" in out
    _, out, _ = said(
        capsys, "rules", "replay", "--rules", "old.yaml", "--compare", "new.yaml", *WHEN, "--json"
    )
    told = json.loads(out)
    assert told["rules"]["warm"]["raised"] == 510
    assert told["rules"]["warm"]["first"] == {
        "at": "2026-09-21T14:14:00.000Z", "address": "c1/charger/p40", "track": None}  # fmt: skip
    assert told["difference"]["rules"]["warm"]["only_in_compared"] == 0


def test_what_is_wrong_with_a_replay_is_one_line_with_the_remedy(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.yaml").write_text("rules: [{id: x}]", encoding="utf-8")
    code, _, err = said(capsys, "rules", "replay", "--rules", "bad.yaml")
    assert (code, err.count("bad.yaml")) == (2, 3)
    code, _, err = said(capsys, "rules", "replay", "--from", "yesterday")
    assert code == 2
    assert err.startswith("--from: 'yesterday' is no moment: write now, a span before now (-24h")
    assert said(capsys, "rules", "replay", "--from", "now", "--to", "-1h")[0] == 2
    (here / "anlin.yaml").write_text("language: en\ndata_dir: elsewhere\n", encoding="utf-8")
    code, _, err = said(capsys, "rules", "replay", "--from", "-24h")
    assert code == 1
    assert "there is no journal here: start the gateway once, or name its data_dir" in err


def test_a_replay_that_is_interrupted_leaves_no_process(here: Path) -> None:
    said: list[Input] = [
        reading(T0 + number * 10, f"c1/charger/p{number % 50}", temperature=20 + number % 60)
        for number in range(60_000)
    ]
    lived(here / "more", warm(), said, T0 + HOUR, size=500)
    (here / "anlin.yaml").write_text("data_dir: more\n", encoding="utf-8")
    with subprocess.Popen(
        [*ANLIN, "rules", "replay", "--rules", "old.yaml", *WHEN, "--jobs", "2"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as replay:
        try:
            workers = eventually(lambda: [each.pid for each in psutil.Process(replay.pid).children()])
            replay.send_signal(signal.SIGINT)
            _, told = replay.communicate(timeout=PATIENCE_S)
        finally:
            replay.kill()
    assert (replay.returncode, told) == (130, b"")
    eventually(lambda: gone(workers))


def test_found_values_survive_the_way_between_processes(tmp_path: Path) -> None:
    lived(tmp_path, STORY, [reading(T0, "c1/charger/p1", temperature=90)], T0 + HOUR)
    one = run_all(trial(tmp_path, rules(STORY)), lambda *_: None)
    two = run_all(trial(tmp_path, rules(STORY), shards=2), lambda *_: None)
    assert isinstance(two[0], Found)
    assert sum(each.readings for each in two) == one[0].readings
    assert joined(each.outcomes[0] for each in two) == one[0].outcomes[0]


def test_what_the_journal_has_dropped_is_replayed_from_the_parts_and_runs_on_into_the_journal(
    tmp_path: Path,
) -> None:
    said: list[Input] = []
    for number in range(40):
        at = T0 + number * MINUTE
        said.append(reading(at, f"c1/charger/p{number % 7}", temperature=61 + number % 3 * 5))
        said.append(reading(at + 30_000, f"c1/charger/p{number % 7}", temperature=20))
    lived(tmp_path, warm(), said, T0 + HOUR)
    chosen = rules(warm(limit=65, delay="5s"))
    whole = run(trial(tmp_path, chosen), 0, ignored)
    exact = whole.outcomes[0]["warm"]
    assert exact.raised > 20

    compact(tmp_path, Limits(max_days=90, max_bytes=2**30))
    with closing(sqlite3.connect(tmp_path / FILE)) as journal, journal:
        (last,) = journal.execute("SELECT max(seq) FROM batches").fetchone()
        journal.execute("DELETE FROM batches WHERE seq <= ?", (last // 2,))
    begins = exact_from(tmp_path)
    assert begins is not None
    assert begins > T0
    for shards in (1, 2):
        parts = [run(trial(tmp_path, chosen, shards=shards), shard, ignored) for shard in range(shards)]
        assert sum(part.readings for part in parts) == whole.readings
        found = [part.outcomes[0]["warm"] for part in parts]
        assert sum(each.raised for each in found) == exact.raised
        assert sum(each.cleared for each in found) == exact.cleared
