"""``anlin demo``: what a stranger sees first. The whole of it runs beside the other tests (conftest.py)."""

import io
import re
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from rich.console import Console

from edge.demo.stage import BOARD_PORT, BROKER_PORT
from edge.demo.view import NodeHealth, NodeStatus, StandingAlarm, View
from tests.demo_run import Demo
from tests.servers import HOST
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.timed

STORY = {
    "button-emergency of bt0042",
    "elevator-ebike of lift-3-2-a",
    "charger-hot of shed1-p07",
    "charger-fire of shed1-p07",
    "smoke-alarm of sm0001",
}


def test_the_demo_raises_and_ends_everything_as_its_story_says(whole_demo: Demo | None) -> None:
    assert whole_demo is not None
    assert whole_demo.process.wait(150) == 0, whole_demo.said
    lines = whole_demo.said.splitlines()
    raised = {match[1] for line in lines if (match := re.search(r"s  raised +(\S+ of \S+)", line))}
    assert raised >= STORY
    cleared = {match[1] for line in lines if (match := re.search(r"s  cleared +(\S+ of \S+)", line))}
    assert "elevator-ebike of lift-3-2-a" in cleared
    assert "62 of 62 devices are connected" in whole_demo.said
    assert lines[-1] == "all alarms came as they should"
    events = [line for line in lines if re.match(r" *\d+\.\d s  \S", line)]
    assert len(events) >= 15  # one line an event …
    assert "\x1b" not in whole_demo.said  # … and nothing that only a terminal understands
    assert "Traceback" not in whole_demo.said
    assert not list(whole_demo.temporary.iterdir())


def test_in_a_terminal_it_shows_a_live_view_and_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    with Demo(tmp_path, "--port", "0", "--lang", "en", terminal=True) as demo:
        demo.wait_for("Anlin · demo of a community")
        demo.wait_for("62 of 62 devices are connected")
        demo.wait_for("62 devices: 62 online, 0 offline")
        demo.wait_for("No alarms are standing")
        processes = demo.processes()
        assert len(processes) >= 4  # demo, node, web, bridge
        demo.press_ctrl_c()
        assert demo.process.wait(PATIENCE_S) == 0
        eventually(lambda: demo.nothing_left(processes))
        assert "ended by hand" in demo.said
        assert "Traceback" not in demo.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ports_that_are_taken_are_replaced_and_named_and_a_signal_while_it_starts_ends_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    with ExitStack() as stack:
        for port in (BROKER_PORT, BOARD_PORT):
            squatter = stack.enter_context(socket.socket())
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections hold no port
            with suppress(OSError):  # taken by somebody else: as good
                squatter.bind((HOST, port))
                squatter.listen()
        demo = stack.enter_context(Demo(tmp_path, "--lang", "en"))
        demo.wait_for("for the board\n")
        board = re.search(rf"port {BOARD_PORT} is taken, using (\d+) for the board\n", demo.said)
        broker = re.search(rf"port {BROKER_PORT} is taken, using (\d+) for the broker\n", demo.said)
        assert board is not None
        assert broker is not None
        demo.wait_for(
            f"the board is at http://127.0.0.1:{board[1]}; the embedded broker on 127.0.0.1:{broker[1]}"
        )
        eventually(lambda: len(demo.processes()) >= 2)
        processes = demo.processes()
        demo.process.send_signal(number)
        assert demo.process.wait(PATIENCE_S) == 0
        eventually(lambda: demo.nothing_left(processes))
        assert "Traceback" not in demo.said


@pytest.mark.parametrize(
    ("language", "connected", "undue", "missed", "ended"),
    [
        (
            "en",
            "62 of 62 devices are connected",
            "ended before it was due: ",
            "MISSED",
            "ended before 6 of the expected alarms were due: ",
        ),
        ("zh", "62 台设备中 62 台已连接", "结束时尚未到期：", "不符合预期", "结束时有 6 项预期尚未到期："),
    ],
)
def test_a_demo_that_ends_before_alarms_are_due_says_so_and_does_not_call_them_missed(
    tmp_path: Path, language: str, connected: str, undue: str, missed: str, ended: str
) -> None:
    with Demo(tmp_path, "--port", "0", "--seconds", "1", "--lang", language) as demo:
        assert demo.process.wait(PATIENCE_S) == 1
        assert connected in demo.said
        assert demo.said.count(undue) == 6
        assert missed not in demo.said
        assert demo.said.splitlines()[-1].startswith(ended)
        assert "Traceback" not in demo.said


@pytest.mark.parametrize(
    ("language", "severity", "state"),
    [("zh", " 重要 ", "已恢复，待确认"), ("en", " HIGH ", "over, not acknowledged")],
)
def test_the_live_view_calls_severities_and_states_as_everything_else_does(
    language: str, severity: str, state: str
) -> None:
    alarm = StandingAlarm(
        "high", "rtn_unacked", "hot", "p1", {"en": "warm", "zh": "热"}, "2026-09-21T14:13:20Z"
    )
    counts = {"devices": 1, "online": 1, "offline": 0}
    view = View(language, "http://127.0.0.1:1", "127.0.0.1:2")
    view.update(NodeStatus(NodeHealth("ok", counts), [alarm]), 0)
    screen = Console(file=io.StringIO(), width=120, record=True)
    screen.print(view.render())
    shown = screen.export_text()
    assert severity in shown
    assert state in shown
    assert "rtn_unacked" not in shown
