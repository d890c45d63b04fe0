"""Devices that say too much, in the running node: a look a second while there are any, and what is said of it.

The policy is `edge.throttle`'s; here are its timer, its gap rows, its trouble and its log lines.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from devices.readings import Address, Reading
from edge.health import Code, Troubles
from edge.store.records import GapReason
from edge.throttle import Throttle

log = logging.getLogger("anlin.babblers")

LOOK_S = 1.0
NAMED = 3


class Judge(Protocol):
    """Who takes the readings that were held back, and puts losses on record: the node."""

    def judge(self, readings: Sequence[Reading]) -> None:
        """Tell the engine."""

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """A gap row."""


class Babblers:
    """Asks the throttle for its `turn`; idle while nobody babbles. ``able``: whether the store works."""

    def __init__(
        self,
        throttle: Throttle,
        judge: Judge,
        troubles: Troubles,
        *,
        now_ms: Callable[[], int],
        able: Callable[[], bool],
    ) -> None:
        self._throttle = throttle
        self._judge = judge
        self._troubles = troubles
        self._now_ms = now_ms
        self._able = able
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Somebody may have begun."""
        if self._timer is None and self._throttle.babblers:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def finish(self) -> None:
        """Hold nothing back any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._turn(last=True)

    def _look(self) -> None:
        self._timer = None
        self._turn(last=False)
        self.watch()

    def _turn(self, *, last: bool) -> None:
        if not self._able():
            return
        turn = self._throttle.turn(self._now_ms(), last=last)
        if turn.judge:
            self._judge.judge(turn.judge)
        for loss in turn.losses:
            self._judge.lost(loss.lane.value, loss.count, loss.from_ms, loss.to_ms, GapReason.THROTTLED)
        for address in turn.began:
            log.warning("a device says too much and is throttled", extra={"device": address})
        for address in turn.ended:
            log.warning("a device is not throttled any more", extra={"device": address})
        if babblers := self._throttle.babblers:
            self._troubles.say(Code.DEVICE_THROTTLED, _named(babblers))
        elif turn.ended:
            self._troubles.over(Code.DEVICE_THROTTLED)


def _named(babblers: Sequence[Address]) -> str:
    names = ", ".join(babblers[:NAMED])
    more = len(babblers) - NAMED
    return f"too many messages from {names}" + (f" and {more} more" if more > 0 else "")
