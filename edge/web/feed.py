"""Every alarm change by its journal number, for any number of listeners, without gap or duplicate.

A listener is nothing but a position: it gets what lies above it, from a bounded window of recent changes or,
when it has fallen behind that, from the database. So no listener has a queue, a slow one costs nothing, and
resuming is the same as falling behind. The feed itself works the same way: after each new subscription to
the node it first reads from the database what it missed.
"""

import asyncio
import logging
import random
from collections import deque
from typing import NamedTuple

from edge.control_client import ControlClient, ControlError
from edge.store.reader import JournalReader
from edge.web.database import Database, DatabaseAwayError
from rules.alarms import AlarmChange

WINDOW = 512
"""Recent changes kept in memory."""

PAGE = 200
"""Changes read from the database at a time."""

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """An alarm change as it goes to listeners."""

    number: int
    data: bytes
    """The alarm's wire JSON and its ``transition``."""


class AlarmFeed:
    """``run`` keeps it up to date until cancelled; `close` ends those who listen."""

    def __init__(self, database: Database, node: ControlClient) -> None:
        self._database = database
        self._node = node
        self._recent: deque[Change] = deque(maxlen=WINDOW)
        self._floor = 0
        self._moved = asyncio.Event()
        self.position: int | None = None
        """The number of the newest change; None until the database has been read once."""
        self.closed = False
        self.listeners = 0
        self.failures = 0
        """Faults of our own that `run` went on after."""

    async def run(self) -> None:
        """Follow the node and the database, reconnecting for ever."""
        while True:
            try:
                await self._catch_up()
                async with self._node.subscribe() as pushes:
                    await self._catch_up()
                    async for push in pushes:
                        if self.position is None or push.number > self.position + 1:
                            await self._catch_up()
                        self._take(Change(push.number, _with_transition(bytes(push.alarm), push.transition)))
            except (ControlError, DatabaseAwayError) as error:
                log.info("alarm feed: %s", error)
            except Exception:  # the task's top: the board must go on
                self.failures += 1
                log.exception("alarm feed: begins anew")
            await asyncio.sleep(random.uniform(0.3, 0.7))  # noqa: S311 - jitter, not cryptography

    async def after(self, position: int) -> list[Change]:
        """Changes above ``position``, in order, at most a page; empty when there are none yet."""
        if self.position is None or position >= self.position:
            return []
        if position >= self._floor:
            return [change for change in self._recent if change.number > position]
        return await self._read(position)

    async def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until something lies above ``position`` or the feed is closed; False after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.closed and (self.position is None or self.position <= position):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Tell the listeners to end."""
        self.closed = True
        self._wake()

    async def _catch_up(self) -> None:
        if self.position is None:
            self.position = self._floor = await self._database.read(JournalReader.last_change)
            self._wake()
        while changes := await self._read(self.position):
            for change in changes:
                self._take(change)

    async def _read(self, position: int) -> list[Change]:
        rows = await self._database.read(lambda journal: journal.changes_after(position, PAGE))
        return [Change(number, _data(change)) for number, change in rows]

    def _take(self, change: Change) -> None:
        if self.position is None or change.number <= self.position:
            return
        if len(self._recent) == WINDOW:
            self._floor = self._recent[0].number
        self._recent.append(change)
        self.position = change.number
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _data(change: AlarmChange) -> bytes:
    return _with_transition(change.alarm.wire(), change.transition)


def _with_transition(alarm: bytes, transition: str) -> bytes:
    return b'%s,"transition":"%s"}' % (alarm.rstrip()[:-1], transition.encode())
