"""edge.cli: what a person types and reads. Every file in bad_configs is refused with the lines on its top."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_bridge.source import State
from edge.cli import main
from edge.control import ControlServer, Refused, Request
from edge.control_client import SOCKET_NAME, _away
from edge.error_words import message_of, told
from edge.health import Code
from edge.mqtt.embedded import EmbeddedBrokerError
from edge.report_words import CLOUD, LABELS, WORDS
from edge.shell.reports import AlarmLine, StatusReport, alarm_lines, gap_lines, status_lines
from edge.shell.verbs import print_lines
from edge.store.errors import StoreLocked
from edge.store.journal import Journal
from edge.store.lock import DirectoryLock
from edge.store.records import Batch, Gap, GapReason
from rules.alarms import Severity, WireClosed
from tests.fake_node import HEALTHY
from tests.waiting import PATIENCE_S, eventually
from tests.web_world import Book, alarm, raised

ROOT = Path(__file__).resolve().parent.parent
BAD = Path(__file__).resolve().parent / "bad_configs"

VERBS = [
    ["demo"], ["run"], ["check"], ["alarms"], ["alarms", "list"], ["alarms", "show"], ["alarms", "ack"],
    ["alarms", "explain"], ["alarms", "close"], ["order"], ["orders"], ["simulate"], ["rules"], ["rules", "check"],
    ["rules", "test"], ["rules", "replay"], ["rules", "apply"], ["status"],
]  # fmt: skip

RULES = """
rules:
  - id: pool-{name}
    kind: charger
    when: temperature >= 50
    severity: low
    text: {{en: warm, zh: 热}}
    examples:
      - name: warm raises
        readings: [{{at: 0s, temperature: 51}}]
        expect: [{{at: {at}, change: raised}}]
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a configuration that is not its own."""
    for name in [name for name in os.environ if name.startswith("ANLIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANLIN_LANGUAGE", "en")
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    try:
        code = main(argv)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def expected(path: Path) -> str:
    """The comment on the top of a bad file."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    assert lines, f"{path} does not say what is wrong with it"
    return "\n".join(lines) + "\n"


# --- check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in BAD.glob("*.yaml")))
def test_a_bad_configuration_is_refused_in_the_words_on_its_top(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANLIN_LANGUAGE")  # it would hide what the file says
    monkeypatch.chdir(BAD)
    assert said(capsys, "check", "--config", name) == (2, "", expected(BAD / name))


@pytest.mark.parametrize("name", sorted(path.name for path in (BAD / "registry").glob("*.yaml")))
def test_a_bad_registry_is_refused_in_the_words_on_its_top(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD / "registry")
    monkeypatch.setenv("ANLIN_DEVICES", name)
    assert said(capsys, "check") == (2, "", expected(BAD / "registry" / name))


def test_run_refuses_a_bad_configuration_as_check_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD)
    assert said(capsys, "run", "--config", "unknown_key.yaml") == (2, "", expected(BAD / "unknown_key.yaml"))


@pytest.mark.parametrize("verb", [["alarms"], ["status"], ["rules", "check"]])
def test_no_verb_works_from_a_bad_configuration(
    verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD)
    assert said(capsys, *verb, "--config", "no_number.yaml")[::2] == (2, expected(BAD / "no_number.yaml"))


def test_check_without_faults_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    (Path.cwd() / "registry.yaml").write_text(
        (ROOT / "deploy/registry.example.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (Path.cwd() / "anlin.yaml").write_text("devices: registry.yaml\n", encoding="utf-8")
    code, out, err = said(capsys, "check")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"no faults: 6 devices in 2 places, \d+ rules\n", out)


def test_check_finds_faults_of_configuration_registry_and_rules_in_one_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in {
        "anlin.yaml": "sit: c1\ndevices: registry.yaml\nrules: [pool.yaml, two.yaml]\n",
        "registry.yaml": "devices: [{id: a, kind: smok}]\n",
        "pool.yaml": "rules: [{id: x, kind: charger, when: temperature > ten, severity: low}]\n",
        "two.yaml": "rules: []\nrules: []\n",
    }.items():
        Path(name).write_text(text, encoding="utf-8")
    code, _, err = said(capsys, "check")
    assert code == 2
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        "anlin.yaml:1", "registry.yaml:1", "two.yaml:2", *["pool.yaml:1"] * err.count("pool.yaml"),
    ]  # fmt: skip


def test_check_refuses_a_data_directory_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    Path("anlin.yaml").write_text("data_dir: file/below", encoding="utf-8")
    assert said(capsys, "check") == (2, "", "file/below: cannot be made: a file is in its way\n")


# --- help and mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(
    verb: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(capsys, *verb, "--help")
    assert code == 0
    assert re.search(rf"example:\s+anlin {' '.join(verb)}\b", out)


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"anlin \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "anlin: the following arguments are required: COMMAND; see anlin --help\n"),
        (["alarms", "ack", "X", "--by", "Wang"],
         "anlin alarms ack: the following arguments are required: --comment; see anlin alarms ack --help\n"),
        (["demo", "--seconds", "0"],
         "anlin demo: argument --seconds: must be seconds, more than 0, is '0'; see anlin demo --help\n"),
        (["demo", "--port", "x"],
         "anlin demo: argument --port: must be a port from 0 to 65535, is 'x'; see anlin demo --help\n"),
    ],
)  # fmt: skip
def test_a_mistyped_command_is_told_in_one_line(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *argv) == (2, "", told)


def test_help_answers_at_once() -> None:
    code = (
        "import sys, time, edge.cli\n"
        "try: edge.cli.main(['--help'])\n"
        "except SystemExit: print(sorted(sys.modules.keys() & {'pydantic', 'yaml', 'asyncio', 'msgspec'}))\n"
        "print(time.process_time() < 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\nTrue\n")


def test_python_m_edge_is_anlin() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "check", "--config", "no.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "no.yaml: does not exist\n")


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    """As in `anlin check | head -0`: the pipe is closed before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "rules", "check"],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


# --- rules --------------------------------------------------------------------------------------------------


def test_the_shipped_rules_are_right_and_so_are_their_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "rules", "check")
    assert code == 0
    assert re.fullmatch(r"no faults: \d+ rules in \d+ files, \d+ examples\n", out)
    code, out, err = said(capsys, "rules", "test", "--scenario", "burnt-toast")
    assert (code, err) == (0, "")
    assert re.search(r"PASS  rules/packs/smoke.yaml: \d+ rules, \d+ examples\n", out)
    assert out.endswith("  PASS\n")


def test_a_named_rule_file_is_tested_with_the_packs_and_its_mismatch_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("good.yaml").write_text(RULES.format(name="good", at="0s"), encoding="utf-8")
    Path("bad.yaml").write_text(RULES.format(name="bad", at="5s"), encoding="utf-8")
    story = ("--scenario", "burnt-toast")
    code, out, err = said(capsys, "rules", "test", "good.yaml", *story)
    assert (code, err) == (0, "")
    assert "PASS  good.yaml: 1 rules, 1 examples" in out
    code, out, err = said(capsys, "rules", "test", "good.yaml", "bad.yaml", *story)
    assert code == 1
    assert "FAIL  bad.yaml: 1 rules, 1 examples" in out
    assert err.startswith("bad.yaml: pool-bad: ")
    assert said(capsys, "rules", "check", "none.yaml") == (2, "", "none.yaml: does not exist\n")


def test_a_rule_file_of_the_configuration_may_be_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.yaml").write_text(RULES.format(name="good", at="0s"), encoding="utf-8")
    Path("anlin.yaml").write_text("rules: [good.yaml]", encoding="utf-8")
    code, out, _ = said(capsys, "rules", "test", "good.yaml", "--scenario", "burnt-toast")
    assert code == 0
    assert out.count("good.yaml: 1 rules, 1 examples") == 1


# --- alarms and status --------------------------------------------------------------------------------------


def test_alarms_list_shows_what_stands_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    low = alarm(1, severity=Severity.LOW, place={})
    high = alarm(2, severity=Severity.HIGH, occurrences=3, acked_at=5, acked_by="Wang")
    over = alarm(3, closed=True)

    async def scenario() -> None:
        async with Book(Path("data")) as book:
            await book.commit(raised(low), raised(high), raised(over))

    asyncio.run(scenario())
    code, out, err = said(capsys, "alarms")
    assert code == 0
    assert err.startswith("anlin: this is how it was at ")
    place = "Building 3, unit 2, floor 11, room 1102"
    assert out == (
        f"{high.id}  09-21 22:13:22  high     acked (Wang) ×3  smoke/sm0002  {place}  Smoke at sm0002\n"
        f"{low.id}  09-21 22:13:21  low      unacked  smoke/sm0001  –  Smoke at sm0001\n"
    )
    code, out, _ = said(capsys, "alarms", "list", "--json")
    assert [one["id"] for one in json.loads(out)] == [high.id, low.id]
    code, out, _ = said(capsys, "alarms", "show", over.id)
    assert code == 0
    assert re.search(r"^state +over$", out, re.MULTILINE)
    assert re.search(r"^place +building: 3, unit: 2, floor: 11, room: 1102$", out, re.MULTILINE)
    code, out, _ = said(capsys, "alarms", "show", over.id, "--json")
    assert json.loads(out) == json.loads(over.wire())
    assert said(capsys, "alarms", "show", "nobody") == (
        1, "", "anlin: no alarm nobody in the journal: see `anlin alarms list`\n",
    )  # fmt: skip


def test_no_alarm_stands_on_an_empty_board(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with Book(Path("data")):
            pass

    asyncio.run(scenario())
    assert said(capsys, "alarms", "list")[:2] == (0, "no alarm stands\n")


@pytest.mark.parametrize(
    ("language", "dead", "deaf"),
    [
        (
            "en",
            "not now: no gateway runs on",
            "does not hear its devices: no connection to the broker (bulk)",
        ),
        ("zh", "data/node.sock 上没有运行网关", "收不到设备的数据：未连接的会话：bulk"),
    ],
)
def test_a_board_that_is_not_of_now_says_so_beside_it(
    language: str, dead: str, deaf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANLIN_LANGUAGE", language)

    async def scenario() -> None:
        async with Book(Path("data")) as book:
            await book.commit(raised(alarm(1)))

    asyncio.run(scenario())
    code, out, err = said(capsys, "alarms", "list", "--json")
    assert (code, [one["id"] for one in json.loads(out)]) == (0, [alarm(1).id])
    assert dead in err
    assert "1970" not in err
    away = {"code": "broker_away", "message": "no connection to the broker (bulk)", "remedy": "do this"}
    _, out, err, _ = ask(
        capsys, {**HEALTHY, "status": "failed", "reasons": [away]}, "alarms", "list", "--json"
    )
    assert deaf in err
    _, again, err, _ = ask(capsys, HEALTHY, "alarms", "list", "--json")
    assert (again, err) == (out, "")


def test_a_second_gateway_is_told_of_the_first_and_not_of_its_port(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANLIN_LANGUAGE", "zh")
    with socket.socket() as taken, DirectoryLock(Path("data")):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        Path("anlin.yaml").write_text(
            f"mqtt: {{embedded: true, port: {taken.getsockname()[1]}}}\n", encoding="utf-8"
        )
        code, _, err = said(capsys, "run")
    assert code == 2
    assert f"/data 正被进程 {os.getpid()} 使用" in err


@pytest.mark.parametrize("argv", [["alarms"], ["alarms", "ack", "X", "--by=W", "--comment=c"], ["status"]])
def test_without_a_gateway_one_line_says_what_to_do(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search("start (it|the gateway)", err)


def ask(capsys: pytest.CaptureFixture[str], status: dict[str, Any], *argv: str) -> tuple[int, str, str, Any]:
    """A command beside a gateway that answers ``status`` and takes orders for alarm 1; what it was asked."""
    asked: list[dict[str, Any]] = []

    async def answer(request: Request, line: bytes) -> object:
        asked.append(json.loads(line))
        if request.op in ("status", "health"):
            return status
        if asked[-1]["alarm_id"] != alarm(1).id:
            raise Refused("not_found", "no such alarm stands")
        by = {"late Li": "Wang"}.get(asked[-1]["by"], asked[-1]["by"])  # who was faster
        return msgspec.Raw(alarm(1, acked_at=5, acked_by=by).wire())

    async def scenario() -> int:
        server = asyncio.create_task(ControlServer(path, answer).run())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(listens, path)
            code = await asyncio.to_thread(main, argv)
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
        return code

    path = Path("data") / SOCKET_NAME
    path.parent.mkdir(exist_ok=True)
    code = asyncio.run(scenario())
    return code, *capsys.readouterr(), asked


def listens(path: Path) -> None:
    """Return when a server takes connections on ``path``."""

    def takes() -> bool:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.connect(str(path))
            return True
        return False

    eventually(takes, every_s=0.002)


@pytest.mark.parametrize("op", ["ack", "close"])
def test_an_order_reaches_the_gateway_and_its_answer_is_shown(
    op: str, capsys: pytest.CaptureFixture[str]
) -> None:
    number = alarm(1).id
    code, out, err, asked = ask(capsys, {}, "alarms", op, number, "--by", "Wang", "--comment", "on my way")
    assert (code, err) == (0, "")
    assert re.search(r"^acknowledged by +Wang$", out, re.MULTILINE)
    assert asked == [{"id": 1, "op": op, "alarm_id": number, "by": "Wang", "comment": "on my way"}]


def test_an_order_that_is_refused_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err, _ = ask(capsys, {}, "alarms", "ack", "X", "--by", "Wang", "--comment", "c")
    assert (code, out, err) == (1, "", "anlin: no such alarm stands\n")


def status(*, health: dict[str, Any] | None = None, **wrong: object) -> dict[str, Any]:
    return {"health": {**HEALTHY, **(health or {})}, "standing": [], "silent": [], **wrong}


def test_status_of_a_gateway_without_trouble_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    cloud = {"state": "sending", "behind": {"readings": 12, "alarms": 0}, "error": None}
    code, out, err, _ = ask(capsys, status(health={"cloud": cloud}), "status")
    assert (code, err) == (0, "")
    assert out == (
        "c1/gw-1: ok, up 62 s, 3 devices (2 online, 1 offline, 1 unregistered)\n"
        "standing: nothing\n"
        "silent: nobody\n"
        "cloud: sending, rows behind: readings 12, alarms 0\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"standing": [json.loads(alarm(1).wire())]},
        {"silent": ["c1/smoke/sm0007"]},
        {"health": {"status": "degraded"}},
        {"health": {"status": "failed"}},
    ],
)
def test_status_ends_with_1_if_anything_is_wrong(
    wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err, _ = ask(capsys, status(**wrong), "status")
    assert (code, err) == (1, "")
    code, out, err, _ = ask(capsys, status(**wrong), "status", "--json")
    assert code == 1
    assert json.loads(out) == {**status(**wrong), "gaps": []}


def test_status_tells_what_was_lost_within_a_day_and_is_well_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = time.time_ns() // 1_000_000
    old = Gap(now - 2 * 86_400_000, "readings", 7, now, now, GapReason.JOURNAL_FULL)
    new = [Gap(now - n, "bulk", n, now - 60_000, now, GapReason.BROKER_DROPPED) for n in range(12)]

    async def journal() -> None:
        async with Journal(Path("data"), max_bytes=10**9, forwarding=False) as book:
            await book.commit(Batch(1, now=now, gaps=[old, *new]))

    asyncio.run(journal())
    code, out, err, _ = ask(capsys, status(), "status")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "lost within a day: 12" in lines
    assert lines[-1] == "  … the rest: GET /api/v1/gaps"
    assert len(lines) == 4 + 1 + 10 + 1
    code, out, err, _ = ask(capsys, status(), "status", "--json")
    assert [gap["count"] for gap in json.loads(out)["gaps"]] == list(range(11, -1, -1))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_reason_of_a_loss_has_words_in_both_languages(language: str) -> None:
    gaps = [Gap(5, "bulk", 4001, 1_790_000_000_000, 1_790_000_060_000, each) for each in GapReason]
    lines = list(gap_lines(gaps, language, "Asia/Shanghai"))
    assert len(set(lines)) == len(GapReason)
    for gap, line in zip(gaps, lines, strict=True):
        assert line.startswith("09-21 22:13:20 – 22:14:20  4001 ")
        assert gap.reason not in line.split()
    (unknown,) = gap_lines([Gap(5, "safety", 0, 5, 5, GapReason.SESSION_LOST)], language, "Asia/Shanghai")
    assert "0 " not in unknown.split("  ", 1)[1]


def test_a_second_acknowledgement_tells_whose_stands(capsys: pytest.CaptureFixture[str]) -> None:
    order = ("alarms", "ack", alarm(1).id, "--by", "late Li", "--comment", "c")
    code, out, err, _ = ask(capsys, {}, *order)
    assert code == 0
    assert re.search(r"^acknowledged by +Wang$", out, re.MULTILINE)
    assert err == "anlin: Wang acknowledged it already, at 1970-01-01 08:00:00: that stands\n"


def test_run_tells_every_fault_as_check_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge.logs.configure", lambda *_: None
    )  # it would log into this test's capture for ever
    Path("registry.yaml").write_text("devices:\n  - {id: sm1, kind: smok}\n")
    Path("mine.yaml").write_text("rules:\n  - {id: mine}\n")
    Path("anlin.yaml").write_text("devices: registry.yaml\nrules: [mine.yaml]\n")
    checked = said(capsys, "check")
    assert checked[2].count("\n") > 1
    assert said(capsys, "run") == checked
    with Path("anlin.yaml").open("a") as file:
        file.write("site: c 1\n")
    assert said(capsys, "run") == said(capsys, "check")


def test_status_names_what_stands_who_is_silent_and_what_to_do() -> None:
    reason = {"code": "cloud_away", "message": "refused", "remedy": "wait"}
    health = {
        **HEALTHY, "status": "degraded", "reasons": [reason], "uptime_s": 200_000.0,
        "cloud": {"state": "waiting", "behind": {"readings": 5}, "error": "refused"},
    }  # fmt: skip
    report = msgspec.convert(
        {"health": health, "standing": [json.loads(alarm(1).wire())], "silent": ["c1/smoke/sm0007"]},
        StatusReport,
    )
    place = "Building 3, unit 2, floor 11, room 1102"
    assert list(status_lines(report, "en", "Asia/Shanghai")) == [
        "c1/gw-1: degraded, up 2 d, 3 devices (2 online, 1 offline, 1 unregistered)",
        "  cloud_away: refused; wait",
        "standing: 1",
        f"  {alarm(1).id}  09-21 22:13:21  critical unacked  smoke/sm0001  {place}  Smoke at sm0001",
        "silent: 1",
        "  c1/smoke/sm0007",
        "cloud: waiting, rows behind: readings 5; refused",
    ]


def test_nothing_that_the_cloud_or_a_person_said_steers_the_terminal_of_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said_ = "no\x1b[2J\nall is well"
    reason = {"code": "cloud_refuses", "message": said_, "remedy": "mend it"}
    cloud = {"state": "fix_needed", "behind": {"readings": 5}, "error": said_}
    report = msgspec.convert(
        status(
            health={"reasons": [reason], "cloud": cloud},
            standing=[json.loads(alarm(1, acked_by=said_).wire())],
        ),
        StatusReport,
    )
    print_lines(status_lines(report, "en", "Asia/Shanghai"))
    lines = capsys.readouterr().out.split("\n")
    assert sum("no [2J all is well" in line for line in lines) == 3
    assert all(line.isprintable() for line in lines), lines


def test_status_names_registered_devices_that_never_spoke() -> None:
    never = [f"c1/smoke/sm{number:04}" for number in range(12)]
    report = msgspec.convert(status(unheard=never), StatusReport)
    lines = list(status_lines(report, "en", "Asia/Shanghai"))
    assert lines[3].startswith("never heard: 12 of the registry")
    assert lines[4:14] == [f"  {address}" for address in never[:10]]
    assert lines[14].startswith("  … the rest")


def test_an_alarm_without_a_text_in_the_language_shows_the_one_it_has() -> None:
    line = msgspec.json.decode(alarm(1, text={"en": "Smoke"}).wire(), type=AlarmLine)
    assert next(alarm_lines([line], "zh", "Asia/Shanghai")).endswith("  Smoke")


# --- in Chinese ---------------------------------------------------------------------------------------------


def test_alarms_are_listed_and_shown_in_chinese_on_the_communitys_clock(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANLIN_LANGUAGE", "zh")
    one = alarm(2, severity=Severity.HIGH, acked_at=5, acked_by="Wang", comment="马上去")

    async def scenario() -> None:
        async with Book(Path("data")) as book:
            await book.commit(raised(one))

    asyncio.run(scenario())
    _, out, _ = said(capsys, "alarms")
    assert (
        out == f"{one.id}  09-21 22:13:22  重要 已确认 (Wang)  smoke/sm0002  "
        "3号楼 2单元 11层 1102室  烟感 sm0002 报警\n"
    )
    _, out, _ = said(capsys, "alarms", "show", one.id)
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert shown["级别"] == "重要"
    assert shown["状态"] == "已确认"
    assert shown["触发时间"] == "2026-09-21 22:13:22"
    assert shown["收到时间"] == "2026-09-21 22:13:22"
    assert shown["内容"] == "烟感 sm0002 报警"
    assert shown["位置"] == "楼栋: 3, 单元: 2, 楼层: 11, 房间: 1102"
    assert not re.search(r"\d{13}|\.\d{3}Z|unacked|high", out, re.MULTILINE)
    assert said(capsys, "alarms", "show", "nobody")[2] == (
        "anlin: 记录中没有告警 nobody：用 `anlin alarms list` 查看\n"
    )
    assert said(capsys, "rules", "check")[1].startswith("没有错误：")


def test_status_is_in_chinese_and_every_reason_has_its_words() -> None:
    reasons = [{"code": str(code), "message": "x", "remedy": "do this"} for code in Code]
    cloud = {"state": "fix_needed", "behind": {"readings": 5}, "error": None}
    health = {**HEALTHY, "status": "degraded", "reasons": reasons, "uptime_s": 200_000.0, "cloud": cloud}
    standing = [json.loads(alarm(1).wire())]
    report = msgspec.convert(
        {"health": health, "standing": standing, "silent": [], "unheard": ["c1/smoke/sm9"]}, StatusReport
    )
    lines = list(status_lines(report, "zh", "Asia/Shanghai"))
    assert lines[0] == "c1/gw-1：部分功能异常，已运行 2 天，3 台设备（在线 2，离线 1，未登记 1）"
    assert len(set(lines[1 : 1 + len(Code)])) == len(Code)
    assert message_of("no connection to the broker (bulk)", "zh") == "未连接的会话：bulk"
    assert (
        message_of(
            "rules on disk differ: new a, new and 3 more, changed c, removed d; apply with `anlin rules apply`",
            "zh",
        )
        == "新增 a, new 等，另有 3 条；修改 c；删除 d；用 `anlin rules apply` 启用"
    )
    faulty = "rules on disk are faulty and not in force: my.yaml: bad"
    assert message_of(f"{faulty} (and 2 more: `anlin rules check` lists all)", "zh") == (
        "磁盘上的规则有错误，未启用：my.yaml: bad（另有 2 处）"
    )
    assert "do this" not in "\n".join(lines)
    assert "当前告警：1" in lines
    assert lines[-1] == "云端：需要人工处理，待转发：读数 5 条"
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    assert LABELS.keys() == set(WireClosed.__struct_fields__)
    assert {*State} <= CLOUD.keys()


def test_a_command_without_arguments_is_told_so_in_chinese() -> None:
    assert told("self_test takes no argument, not x", "zh") == "self_test 不带参数，没有参数 x"


@pytest.mark.parametrize(
    "error",
    [
        *(_away(Path("/x/node.sock"), each) for each in (
            FileNotFoundError(), PermissionError(), TimeoutError(), msgspec.MsgspecError("x"), None, OSError("y"))),
        StoreLocked("/x", 7), StoreLocked("/x", None),
        "data directory /x cannot be written (File exists): set data_dir to a directory that the gateway's user owns",
        "no alarm X stands: `anlin alarms list` shows what does",
        "alarm X is still active: its condition must end first (acknowledge it meanwhile)",
        "hold_door would be unsafe now: fire_recall is unknown",
        "restore_power would be unsafe now: charger-cut stands, for which cut_power was ordered",
        "no device c1/smoke/x", "no device c1/smoke/x; did you mean smoke/y?", "there is no kind x",
        "there is no kind smok; did you mean smoke?", "p01: say KIND/DEVICE, e.g. charger/shed1-p01",
        "no alarm  in the journal: see `anlin alarms list`", "no order  in the journal: see `anlin orders`",
        "prompt needs text: say --arg text=…", "no order X in the journal: see `anlin orders`",
        "charger obeys cut_power, restore_power, not cut_powr; did you mean cut_power?",
        EmbeddedBrokerError("the embedded broker cannot listen on 127.0.0.1:1883 (x):"
                            " end what uses the port, or choose another mqtt.port"),
        "elevator obeys hold_door, release_door, not open_door",
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_chinese(error: object) -> None:
    assert re.search("[\u4e00-\u9fff]", told(error, "zh"))
    assert told(error, "en") == str(error)
