import asyncio
import time
from collections.abc import Iterator

import pytest

from edge import safety_first
from edge.safety_first import BACKLOG_MOST_S, QUIET_S, SafetyFirst
from tests.node_world import until


def waited_s(first: SafetyFirst) -> float:
    begun = time.monotonic()
    asyncio.run(first.turn())
    return time.monotonic() - begun


def up() -> asyncio.Event:
    online = asyncio.Event()
    online.set()
    return online


def test_bulk_waits_for_the_safety_session_and_then_for_its_quiet() -> None:
    async def scene() -> None:
        online = asyncio.Event()
        first = SafetyFirst(online, lambda: 0)
        turn = asyncio.create_task(first.turn())
        await asyncio.sleep(0)
        assert not turn.done()
        online.set()
        since = time.monotonic()
        await until(turn.done)
        assert time.monotonic() - since >= QUIET_S

    asyncio.run(scene())


def test_bulk_waits_until_the_backlog_of_the_safety_session_has_been_read() -> None:
    backlog = iter(range(10))

    def heard() -> int:
        return next(backlog, 9)

    assert QUIET_S < waited_s(SafetyFirst(up(), heard)) < BACKLOG_MOST_S
    assert next(backlog, None) is None


def test_a_safety_session_that_is_never_quiet_keeps_bulk_waiting_no_longer_than_agreed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_first, "BACKLOG_MOST_S", 0.3)
    endless: Iterator[int] = iter(range(1_000_000))
    assert 0.3 <= waited_s(SafetyFirst(up(), lambda: next(endless))) < BACKLOG_MOST_S


def test_a_safety_session_that_cannot_come_up_does_not_keep_bulk_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_first, "ABSENT_MOST_S", 0.1)
    assert waited_s(SafetyFirst(asyncio.Event(), lambda: 0)) >= 0.1


def test_a_safety_session_that_goes_again_frees_bulk_at_once() -> None:
    async def scene() -> None:
        online = up()

        def heard() -> int:
            online.clear()
            return 0

        await SafetyFirst(online, heard).turn()

    asyncio.run(scene())
