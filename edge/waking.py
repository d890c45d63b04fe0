"""What wakes the node without a message: the engine's next deadline, and a wall clock that was set."""

import asyncio
from typing import Protocol

from edge.clock import Clock
from edge.committing.commits import Commits
from edge.committing.storing import Storing
from edge.hearing import Hearing
from edge.intake import Intake
from edge.outbox import Outbox
from edge.timekeeping import WATCH_S, Timekeeper
from rules.engine import Engine

WAIT_S = 60.0
"""A deadline that is further off is waited for in pieces: the clock is slewed, and timers are not."""


class Woken(Protocol):
    """Who is woken: the node. Its intake and commits change with a rebuild."""

    deaf: bool
    intake: Intake
    commits: Commits
    outbox: Outbox


class Waking:
    """One for the life of a node; sleeps while it is `deaf`."""

    def __init__(self, node: Woken, clock: Clock, hearing: Hearing, timekeeper: Timekeeper) -> None:
        self._node = node
        self._clock = clock
        self._hearing = hearing
        self._timekeeper = timekeeper
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None

    def arm(self) -> None:
        """Wake up when the engine's next deadline comes."""
        due = Engine.next_deadline(self._node.intake.state)
        if due == self._timer_at:
            return
        self.shut()
        self._timer_at = due
        if due is not None:
            wait_s = min(max(0.0, (due - self._clock.now_ms()) / 1000), WAIT_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.tick)

    def arm_anew(self) -> None:
        """The same after the clock may have been set: it is another wait to a deadline that has stayed where it was."""
        self.shut()
        self.arm()

    def tick(self) -> None:
        """Take what is due."""
        self._timer = self._timer_at = None
        node = self._node
        if not node.deaf:
            node.intake.tick(self._hearing.now_awake())
            if node.intake.urgent:
                node.commits.close()
            self.arm()

    async def watch_clock(self) -> None:
        """Look at the wall clock for ever."""
        while True:
            await asyncio.sleep(WATCH_S)
            self.look_at_clock()

    def look_at_clock(self) -> None:
        """Follow the wall clock. While not everything can be stored, time goes on as it did."""
        node = self._node
        if not node.deaf and node.commits.storing is Storing.ALL:
            step = self._timekeeper.observe(node.intake)
            if step is not None:
                node.outbox.postpone(step.postpone_ms)
                node.commits.close()
                self.arm_anew()
            elif self._clock.provisional:
                node.commits.touched()

    def shut(self) -> None:
        """Wake nobody any more, until it is armed."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None
