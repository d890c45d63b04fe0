"""What saves people is read before what merely informs: the bulk session connects after the safety session.

With two sessions an emergency press has no telemetry before it in its own queue, but the broker, the event
loop and the disk are shared. So whenever both must connect, bulk waits until the safety session is up and
what waited in it has been read. That is so when the gateway's own ``online``, said on connecting, comes back in
it: a broker hands out a session's messages in their order. The wait is bounded: a safety session that cannot come
up, or a broker that hands nobody his own words, keeps the rest from being seen for half a minute, not for ever.
"""

import asyncio
from contextlib import suppress

BACKLOG_MOST_S = 5.0
"""Where the own words do not come back: a broker may forbid the topic."""

ABSENT_MOST_S = 31.0
"""The longest time between two attempts of the safety session to connect, and a little."""


class SafetyFirst:
    """``online`` is set while the safety session is up, ``read`` when nothing waits in it any more.

    That is so once its backlog has been read, and when it is gone again.
    """

    def __init__(self, online: asyncio.Event, read: asyncio.Event) -> None:
        self._online = online
        self._read = read

    async def turn(self) -> None:
        """Return when bulk may connect."""
        try:
            async with asyncio.timeout(ABSENT_MOST_S):
                await self._online.wait()
        except TimeoutError:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(BACKLOG_MOST_S):
                await self._read.wait()
