"""Whether the gateway hears its devices: listening, catching up, standing still.

Silence counts only while both sessions are up. After a stop of any kind – of a connection, of the process, of the
machine – something may wait in the broker, and the engine judges delays when it has been read (`edge.broker.backlog`).
A process that did nothing for a while was stopped as well, and says so before it takes anything else.
"""

import asyncio
import logging
from typing import Protocol

from devices.topics import Lane
from edge.broker.backlog import Backlog
from edge.clock import Clock
from edge.intake import Intake
from rules.decisions import CatchingUp, Input, Listening

log = logging.getLogger("anlin.hearing")

PULSE_S = 1.0
STILL_S = 3.0
"""A process that did nothing for so long was stopped (SIGSTOP, a paused machine) and has missed what came."""


class Hearer(Protocol):
    """Whose engine is told: the node. It changes with a rebuild, and hears nothing while `deaf`."""

    deaf: bool
    intake: Intake
    lanes_up: set[Lane]

    def tell(self, given: Input) -> None:
        """Tell the engine; goes into the open batch."""


class Hearing:
    """Tells the engine `Listening` and `CatchingUp`. One for the life of a node."""

    def __init__(self, node: Hearer, clock: Clock) -> None:
        self.backlog = Backlog(self._caught_up)
        self._node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._awake_at = self._loop.time()

    def listen(self, *, on: bool) -> None:
        """Silence counts only while both sessions are up."""
        node = self._node
        if not node.deaf and on != (node.intake.state.listening_since is not None):
            node.tell(Listening(on, self._clock.now_ms()))

    def catch_up(self, since: int | None = None) -> None:
        """From now on, or ``since``, something may wait in the broker: delays are judged when it has been read."""
        node = self._node
        if not node.deaf and not node.intake.state.catching_up:
            node.tell(CatchingUp(on=True, at=self._clock.now_ms() if since is None else since))
            self.backlog.begin()

    def now_awake(self) -> int:
        """The time, for the engine. If the process stood still until now, that was a stop as any other."""
        now, moment = self._clock.now_ms(), self._loop.time()
        still_s, self._awake_at = moment - self._awake_at, moment
        node = self._node
        if still_s > STILL_S and not node.deaf:
            since = max(node.intake.state.now, now - int(still_s * 1000))
            log.warning("the process stood still", extra={"seconds": round(still_s, 1)})
            if node.intake.state.listening_since is not None:
                node.intake.tell(Listening(on=False, at=since))
            self.catch_up(since)
            if node.lanes_up == set(Lane):
                self.listen(on=True)
        return now

    async def stay_awake(self) -> None:
        """Notice for ever when the process stood still."""
        self._awake_at = self._loop.time()
        while True:
            self.now_awake()
            await asyncio.sleep(PULSE_S)

    def _caught_up(self) -> None:
        node = self._node
        if node.deaf:
            self.backlog.begin()  # nothing can be said now; it must not be forgotten
            return
        while node.intake.state.catching_up:  # where the engine fails at a delay, that one is left out
            node.tell(CatchingUp(on=False, at=self._clock.now_ms()))
