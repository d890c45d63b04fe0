"""What saves people is read before what merely informs: the bulk session connects after the safety session.

With two sessions an emergency press has no telemetry before it in its own queue, but the broker, the event
loop and the disk are shared. So whenever both must connect, bulk waits until the safety session is up and
what waited in it has been read. The wait is bounded: a safety session that cannot come up, or is never
quiet, keeps the rest from being seen for half a minute, not for ever.
"""

import asyncio
from collections.abc import Callable

QUIET_S = 0.1
"""Without a message of the safety session for so long, its backlog has been read."""

BACKLOG_MOST_S = 5.0
"""Where it never falls quiet, because so many devices speak on it."""

ABSENT_MOST_S = 31.0
"""The longest time between two attempts of the safety session to connect, and a little."""

_LOOK_S = 0.02


class SafetyFirst:
    """``online`` is set while the safety session is up; ``heard`` gives when it last brought something."""

    def __init__(self, online: asyncio.Event, heard: Callable[[], int]) -> None:
        self._online = online
        self._heard = heard

    async def turn(self) -> None:
        """Return when bulk may connect."""
        try:
            async with asyncio.timeout(ABSENT_MOST_S):
                await self._online.wait()
        except TimeoutError:
            return
        clock = asyncio.get_running_loop().time
        end = clock() + BACKLOG_MOST_S
        heard, since = self._heard(), clock()
        while self._online.is_set() and clock() - since < QUIET_S and clock() < end:
            await asyncio.sleep(_LOOK_S)
            if self._heard() != heard:
                heard, since = self._heard(), clock()
