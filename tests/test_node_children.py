"""edge.children and edge.control: processes that may crash or hang, clients that may do as they like."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from edge import children
from edge.children import Child, answers_http
from edge.control import BACKLOG_MAX, CLIENTS_MAX, ControlServer, Refused, Request
from edge.control_client import ControlClient, NodeAwayError, OrderRefusedError
from tests.gateway import gone
from tests.servers import HOST, free_port
from tests.waiting import until

SAYS_ITS_PID = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "
WAITS = SAYS_ITS_PID + "sys.stdin.buffer.read()"
ENDS = SAYS_ITS_PID + "sys.exit(1)"
PORT_TAKEN = SAYS_ITS_PID + "sys.exit(3)"
SERVES = """
import http.server, os, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)
    def log_message(self, *_):
        pass
with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Answers) as server:
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
    server.serve_forever()
"""
DEAF = SAYS_ITS_PID + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"


KILLED_S = 5.0
"""What ending may take on a slow machine; without being killed it would never end."""


def child(program: str, file: Path) -> Child:
    return Child("test", [sys.executable, "-c", program, str(file)])


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def ended(task: "asyncio.Task[None]") -> float:
    """Cancel and wait; the seconds it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return loop.time() - begun


def test_a_child_that_ends_is_started_again_and_ends_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_FIRST_S", 0.05)
    file = tmp_path / "pids"

    async def scene() -> None:
        one = child(WAITS, file)
        running = asyncio.create_task(one.run())
        await until(lambda: len(pids(file)) == 1 and one.well)
        psutil.Process(pids(file)[0]).kill()
        await until(lambda: len(pids(file)) == 2 and one.up)
        assert one.restarts == 1
        settled = [one.well]  # it may end again at once
        monkeypatch.setattr(children, "SETTLED_S", 0.0)
        settled.append(one.well)
        assert settled == [False, True]
        assert await ended(running) < children.STOP_S
        assert not one.up
        assert gone(pids(file))

    asyncio.run(scene())


def test_a_child_that_keeps_ending_is_started_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(children, "RESTART_MOST_S", 0.3)
    file = tmp_path / "pids"

    async def scene() -> None:
        one = child(ENDS, file)
        running = asyncio.create_task(one.run())
        begun = asyncio.get_running_loop().time()
        await until(lambda: one.restarts >= 6)
        assert asyncio.get_running_loop().time() - begun > 0.01 + 0.02 + 0.04 + 0.08 + 0.16
        await ended(running)

    asyncio.run(scene())


def test_a_child_that_a_restart_cannot_mend_is_left_alone_for_long(tmp_path: Path) -> None:
    file = tmp_path / "pids"

    async def scene() -> None:
        one = child(PORT_TAKEN, file)
        running = asyncio.create_task(one.run())
        await until(lambda: one.restarts == 1)
        with pytest.raises(TimeoutError):
            await until(lambda: len(pids(file)) > 1, children.RESTART_FIRST_S * 2)
        assert not one.up
        await ended(running)

    asyncio.run(scene())


def test_a_child_that_does_not_listen_to_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    file = tmp_path / "pids"

    async def scene() -> None:
        running = asyncio.create_task(child(DEAF, file).run())
        await until(lambda: pids(file))
        assert await ended(running) < children.STOP_S + KILLED_S
        assert gone(pids(file))

    asyncio.run(scene())


def test_a_child_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOOK_S", 0.1)
    monkeypatch.setattr(children, "ANSWER_S", 1.0)
    file = tmp_path / "pids"
    port = free_port()
    one = Child(
        "test", [sys.executable, "-c", SERVES, str(file), str(port)], partial(answers_http, HOST, port)
    )

    async def scene() -> None:
        running = asyncio.create_task(one.run())
        await until(lambda: pids(file))
        assert await answers_http(HOST, port)
        looks = 5
        with pytest.raises(TimeoutError):  # as long as it answers, it is left alone
            await until(lambda: one.restarts, children.LOOK_S * looks)
        os.kill(pids(file)[0], signal.SIGSTOP)
        await until(lambda: len(pids(file)) == 2 and one.up)
        assert gone(pids(file)[:1])
        await ended(running)

    asyncio.run(scene())


def test_a_child_that_ends_as_it_is_found_to_hang_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOOK_S", 0.1)
    file = tmp_path / "pids"
    looks = []

    async def answers() -> bool:
        looks.append(len(pids(file)))
        if len(looks) == children.MISSES:
            os.kill(pids(file)[0], signal.SIGKILL)
            await until(lambda: gone(pids(file)[:1]))
        return False

    async def scene() -> None:
        one = Child("test", [sys.executable, "-c", WAITS, str(file)], answers)
        running = asyncio.create_task(one.run())
        await until(lambda: len(pids(file)) == 2 or running.done())
        assert not running.done()
        await ended(running)

    asyncio.run(scene())


def test_a_child_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_FIRST_S", 0.05)
    program = tmp_path / "child"

    async def scene() -> None:
        one = Child("test", [str(program)])
        running = asyncio.create_task(one.run())
        await until(lambda: one.restarts or running.done())
        program.write_text("#!/bin/sh\nread line\n")
        program.chmod(0o700)
        await until(lambda: one.up or running.done())
        assert not running.done()
        await ended(running)

    asyncio.run(scene())


# --- the control socket -------------------------------------------------------------------------------------


async def answer(request: Request, _line: bytes) -> object:
    match request.op:
        case "no":
            raise Refused("not_allowed", "not now")
        case "wrong":
            raise ZeroDivisionError
        case _:
            return {"op": request.op}


async def served(path: Path) -> tuple[ControlServer, "asyncio.Task[None]"]:
    server = ControlServer(path, answer)
    running = asyncio.create_task(server.run())
    await until(path.exists)
    return server, running


def test_a_request_is_answered_refused_or_failed_and_the_connection_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scene() -> None:
        server, running = await served(path)
        assert path.stat().st_mode & 0o777 == 0o600
        client = ControlClient(path)
        assert json.loads(bytes(await client.request("hello"))) == {"op": "hello"}
        with pytest.raises(OrderRefusedError, match="not now") as refused:
            await client.request("no")
        assert refused.value.code == "not_allowed"
        with pytest.raises(OrderRefusedError) as failed:
            await client.request("wrong")
        assert failed.value.code == "internal"
        assert server.failures == 1
        assert json.loads(bytes(await client.request("again"))) == {"op": "again"}
        await client.close()
        await ended(running)
        assert not path.exists()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "said",
    [b'{"op": "\xff", "id": 1}', b'{"op": "hello", "id": 1, "x": "\xff"}',
     b'{"op": "hello", "id": 1, "x": ' + b"[" * 100_000, b"[" * 100_000, b'{"op": "hello", "id": 1' + b"0" * 5_000],
)  # fmt: skip
def test_a_line_that_is_no_request_is_answered_and_the_connection_ends(said: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scene() -> None:
        server, running = await served(path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(said + b"\n")
        answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == (None, False, "bad_request")
        assert await reader.read() == b""
        writer.close()
        assert server.failures == 0
        await ended(running)

    asyncio.run(scene())


def test_a_subscriber_hears_in_order_and_one_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scene() -> None:
        server, running = await served(path)
        deaf_reader, deaf = await asyncio.open_unix_connection(path, limit=1024)
        deaf.write(b'{"id": 1, "op": "subscribe"}\n')
        assert json.loads(await deaf_reader.readline())["ok"]
        async with ControlClient(path).subscribe() as pushes:
            alarm = {"x": "y" * 1_000}
            for number in range(2 * BACKLOG_MAX // 1_000 + 500):
                server.push({"push": "alarm", "number": number, "transition": "raised", "alarm": alarm})
                push = await anext(pushes)
                assert push.number == number
        with suppress(ConnectionError):
            while await deaf_reader.read(65_536):
                pass  # what was on its way; then the end, or the test never ends
        deaf.close()
        await ended(running)

    asyncio.run(scene())


def test_more_clients_than_agreed_are_turned_away_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scene() -> None:
        _, running = await served(path)
        clients = [ControlClient(path, timeout_s=2) for _ in range(CLIENTS_MAX)]
        for client in clients:
            await client.request("hello")
        with pytest.raises(NodeAwayError):
            await ControlClient(path, timeout_s=2).request("hello")
        await clients[0].request("hello")
        for client in clients:
            await client.close()
        await ended(running)

    asyncio.run(scene())


def test_a_socket_file_that_a_crash_has_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"")

    async def scene() -> None:
        running = asyncio.create_task(ControlServer(path, answer).run())
        await until(path.is_socket)
        client = ControlClient(path)
        await client.request("hello")
        await client.close()
        await ended(running)

    asyncio.run(scene())
