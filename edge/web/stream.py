"""Server-sent events: alarm changes as they come, resumable by their journal numbers.

An event's ``id`` is the change's number, its ``data`` the alarm's wire JSON with ``transition``. A stream
that does not say where to resume begins with the present number alone, so that a reconnect misses nothing
even if nothing happened before it. A comment is the heartbeat.

A client that takes nothing blocks only its own answer; the listening socket's TCP_USER_TIMEOUT has the
kernel drop it (`edge.web.process`).
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from edge.web.feed import AlarmFeed

_HEARTBEAT = b": heartbeat\n\n"
_RETRY = b"retry: 2000\n\n"
"""Browsers reconnect after this many milliseconds."""


class EventStream(StreamingResponse):
    """One listener, from above ``resume`` on; None means from now on."""

    def __init__(self, feed: AlarmFeed, resume: int | None, heartbeat_s: float) -> None:
        super().__init__(_events(feed, resume, heartbeat_s), media_type="text/event-stream")
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the listener as long as it is there."""
        self._feed.listeners += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.listeners -= 1


async def _events(feed: AlarmFeed, resume: int | None, heartbeat_s: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    beat_at = clock() + heartbeat_s
    yield _RETRY
    position = None
    while not feed.closed:
        if clock() >= beat_at:
            yield _HEARTBEAT
            beat_at = clock() + heartbeat_s
        if position is None and feed.position is not None:
            # A number from the future is of another database: that one is gone, this one begins now.
            position = feed.position if resume is None or resume > feed.position else resume
            if position != resume:
                yield b"id: %d\n\n" % position
        if position is not None and (changes := await feed.after(position)):
            yield b"".join(b"id: %d\nevent: alarm\ndata: %s\n\n" % change for change in changes)
            position = changes[-1].number
        else:
            await feed.wait(-1 if position is None else position, beat_at - clock())
