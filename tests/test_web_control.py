"""Both ends of the control socket: the client against the node's own server, and against silence."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import control_client
from edge.control import ControlServer, Refused, Request
from edge.control_client import SOCKET_NAME, ControlClient, NodeAwayError, OrderRefusedError
from tests.waiting import PATIENCE_S


async def desk(request: Request, line: bytes) -> object:
    match request.op:
        case "echo":
            return msgspec.json.decode(line)["said"]
        case "long":
            return "x" * 1_000_000
        case "stuck":
            await asyncio.Event().wait()
    raise Refused("unknown_op", f"no operation {request.op!r}")


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[ControlServer]:
    """The node's server; at the end everything that it began ends, as when its process does."""
    before = asyncio.all_tasks()
    server = ControlServer(path, desk)
    run = asyncio.create_task(server.run())
    async with asyncio.timeout(PATIENCE_S):
        while not is_up(path):
            await asyncio.sleep(0)
    try:
        yield server
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        await end([task for task in asyncio.all_tasks() - before if "_serve" in str(task.get_coro())])


def is_up(path: Path) -> bool:
    return path.exists() and path.stat().st_mode & 0o777 == 0o600


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def value(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def test_requests_share_a_connection_and_get_their_own_answers(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path / SOCKET_NAME):
            client = ControlClient(tmp_path / SOCKET_NAME)
            answers = await asyncio.gather(*(client.request("echo", said=n) for n in range(50)))
            assert [value(answer) for answer in answers] == list(range(50))
            assert len(value(await client.request("long"))) == 1_000_000
            with pytest.raises(OrderRefusedError, match="'nonsense'") as refused:
                await client.request("nonsense")
            assert refused.value.code == "unknown_op"
            assert value(await client.request("echo", said="still here")) == "still here"
            await client.close()

    asyncio.run(story())


def test_a_late_answer_never_meets_the_next_question(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path / SOCKET_NAME):
            client = ControlClient(tmp_path / SOCKET_NAME, timeout_s=0.2)
            with pytest.raises(NodeAwayError, match="in time"):
                await client.request("stuck")
            assert value(await client.request("echo", said=2)) == 2
            await client.close()

    asyncio.run(story())


def test_a_client_finds_the_node_again_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / SOCKET_NAME
        client = ControlClient(path)
        async with serving(path):
            assert value(await client.request("echo", said=1)) == 1
        with pytest.raises(NodeAwayError):
            await client.request("echo", said=2)
        async with serving(path):
            assert value(await client.request("echo", said=3)) == 3
        await client.close()

    asyncio.run(story())


def test_a_subscriber_gets_every_push_and_hears_of_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / SOCKET_NAME
        told = asyncio.Event()

        async def listen() -> list[int]:
            numbers: list[int] = []
            async with ControlClient(path).subscribe() as pushes:
                for number in range(1, 4):
                    server.push({"push": "alarm", "number": number, "transition": "raised", "alarm": {}})
                for _ in range(3):
                    push = await anext(pushes)
                    assert bytes(push.alarm) == b"{}"
                    numbers.append(push.number)
                told.set()
                with pytest.raises(NodeAwayError, match="closed"):
                    await anext(pushes)
            return numbers

        async with serving(path) as server:
            listening = asyncio.create_task(listen())
            await asyncio.wait_for(told.wait(), PATIENCE_S)
        assert await listening == [1, 2, 3]

    asyncio.run(story())


def test_without_a_gateway_the_error_names_the_socket_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    for _ in range(2):
        with pytest.raises(NodeAwayError) as error:
            control_client.request(path, "health")
        assert str(path) in str(error.value)
        assert "anlin run" in str(error.value)
        if not path.exists():  # the second time: left behind by a gateway that was killed
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
    with pytest.raises(NodeAwayError, match="too long"):
        control_client.request(tmp_path / ("x" * 120), "health")


def test_a_program_without_a_loop_asks_too_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / SOCKET_NAME
        async with serving(path):
            assert value(await asyncio.to_thread(control_client.request, path, "echo", said="hi")) == "hi"
            with pytest.raises(OrderRefusedError):
                await asyncio.to_thread(control_client.request, path, "nonsense")
            with pytest.raises(NodeAwayError, match="in time"):
                await asyncio.to_thread(control_client.request, path, "stuck", timeout_s=0.2)

    asyncio.run(story())
