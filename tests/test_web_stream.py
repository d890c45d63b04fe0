"""The event stream: every alarm change once, in order, whatever breaks in between."""

import asyncio
import socket
import time
from pathlib import Path

from rules.alarms import Transition
from tests.fake_node import FakeNode
from tests.web_world import Book, Stream, alarm, changed, raised, web


def test_a_change_is_told_at_once_with_its_number_the_wire_form_and_its_transition(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            async with board.stream() as stream:
                await position(stream)
                [number] = await book.commit(raised(alarm(1)))
                node.push(number, raised(alarm(1)))
                [(told, data)] = await stream.alarms(1)
                assert told == number
                assert data.pop("transition") == "raised"
                assert data == (await board.get(f"/api/v1/alarms/{alarm(1).id}")).json

    asyncio.run(story())


def test_a_listener_resumes_after_the_number_it_names_without_gap_or_duplicate(tmp_path: Path) -> None:
    async def story() -> None:
        changes = [raised(alarm(n)) for n in range(1, 31)]
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            numbers = await book.commit(*changes[:10])
            for number, change in zip(numbers, changes[:10], strict=True):
                node.push(number, change)
            async with board.stream(Last_Event_ID="0") as stream:
                seen = [number for number, _ in await stream.alarms(4)]
            later = await book.commit(*changes[10:20])
            for number, change in zip(later, changes[10:20], strict=True):
                node.push(number, change)
            async with board.stream(f"?last_event_id={seen[-1]}") as stream:
                seen += [number for number, _ in await stream.alarms(16)]
                for change in changes[20:]:
                    [number] = await book.commit(change)
                    node.push(number, change)
                seen += [number for number, _ in await stream.alarms(10)]
            assert seen == list(range(1, 31))

    asyncio.run(story())


def test_the_header_wins_over_the_parameter_and_a_wrong_number_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book:
            await book.commit(*(raised(alarm(n)) for n in range(1, 6)))
            async with web(tmp_path) as board:
                async with board.stream("?last_event_id=0", Last_Event_ID="3") as stream:
                    assert [number for number, _ in await stream.alarms(2)] == [4, 5]
                assert (await board.get("/api/v1/stream?last_event_id=x")).status == 422
                assert (await board.get("/api/v1/stream", Last_Event_ID="-1")).status == 422

    asyncio.run(story())


def test_a_number_from_another_database_resumes_from_now(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            async with board.stream(Last_Event_ID="99999") as stream:
                assert await position(stream) == 0
                [number] = await book.commit(raised(alarm(1)))
                node.push(number, raised(alarm(1)))
                assert [told for told, _ in await stream.alarms(1)] == [number]

    asyncio.run(story())


def test_what_happens_while_the_node_restarts_reaches_those_who_listen(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            async with board.stream() as stream:
                assert await position(stream) == 0
                await node.stop()
                await book.commit(raised(alarm(1)), raised(alarm(2)))
                async with FakeNode(tmp_path) as again:
                    assert [told for told, _ in await stream.alarms(2)] == [1, 2]
                    await again.subscribed.wait()
                    change = changed(alarm(1), Transition.ACKED, acked_at=1, acked_by="Wang")
                    [number] = await book.commit(change)
                    again.push(2, raised(alarm(2)))  # known already
                    again.push(number, change)
                    [(told, data)] = await stream.alarms(1)
                    assert (told, data["state"]) == (number, "acked")

    asyncio.run(story())


def test_a_listener_that_is_far_behind_gets_everything_from_the_database(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            for begin in range(1, 1_501, 500):
                changes = [raised(alarm(n)) for n in range(begin, begin + 500)]
                for number, change in zip(await book.commit(*changes), changes, strict=True):
                    node.push(number, change)
            async with board.stream("?last_event_id=0") as stream:
                assert [told for told, _ in await stream.alarms(1_500)] == list(range(1, 1_501))

    asyncio.run(story())


def test_a_quiet_stream_beats(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path, heartbeat_s=0.1) as board:
            began = time.monotonic()
            async with board.stream() as stream:
                while stream.heartbeats < 3:
                    await stream.block()
            assert time.monotonic() - began >= 0.25

    asyncio.run(story())


def test_a_stream_above_the_limit_is_refused_and_one_that_ended_makes_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path, listeners_max=2) as board:
            async with board.stream():
                async with board.stream():
                    refused = await board.get("/api/v1/stream")
                    assert refused.status == 503
                    assert refused.headers["retry-after"]
                await board.streams(1)
                async with board.stream() as stream:
                    await position(stream)

    asyncio.run(story())


def test_a_listener_that_takes_nothing_is_dropped_and_hurts_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        long = {"en": "x" * 20_000, "zh": "–"}
        async with Book(tmp_path) as book:
            await book.commit(*(raised(alarm(n, text=long)) for n in range(1, 601)))
            async with web(tmp_path, drop_after_s=1) as board:
                with socket.socket() as stuck:
                    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    stuck.connect(("127.0.0.1", board.port))
                    stuck.sendall(b"GET /api/v1/stream?last_event_id=0 HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    async with board.stream("?last_event_id=0") as stream:
                        assert len(await stream.alarms(600)) == 600
                    await board.streams(0)

    asyncio.run(story())


def test_a_change_whose_push_was_lost_is_told_with_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            async with board.stream() as stream:
                await position(stream)
                await book.commit(raised(alarm(1)))
                [number] = await book.commit(raised(alarm(2)))
                node.push(number, raised(alarm(2)))
                assert [told for told, _ in await stream.alarms(2)] == [1, 2]

    asyncio.run(story())


async def position(stream: Stream) -> int:
    """The number that a stream without one to resume from begins with."""
    while stream.last_id is None:
        await stream.block()
    return stream.last_id
