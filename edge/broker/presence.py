"""The gateway's presence on the broker: ``online`` and ``offline``, and the farewell that tells a broker's setback.

The status is retained. The farewell is a will that a broker publishes only when it ends in good order long after us;
what is found of an older one says that the broker was set back (`edge.broker.broker_watch`).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from devices.topics import Topics
from edge.broker.broker_watch import BrokerWatch, Findings
from edge.clock import Clock
from edge.mqtt.link import SESSION_EXPIRY_S, Link, LinkError, NotConnected, PublishRefusedError, Will

log = logging.getLogger("anlin.presence")


class Presence:
    """Speaks on the safety session, which ``link`` gives. ``find`` takes what is found of the broker."""

    def __init__(
        self,
        topics: Topics,
        node: str,
        clock: Clock,
        watch: BrokerWatch,
        *,
        link: Callable[[], Link],
        find: Callable[[Findings], None],
    ) -> None:
        self.status = topics.gateway(node, "status")
        self._farewell_topic = topics.gateway(node, "farewell")
        self._clock = clock
        self._watch = watch
        self._link = link
        self._find = find
        self._greet = asyncio.Event()

    def greet(self) -> None:
        """The session is up: say so."""
        self._greet.set()

    async def run(self) -> None:
        """Say ``online`` at every connect, and look what the broker was told before."""
        while True:
            await self._greet.wait()
            self._greet.clear()
            with suppress(NotConnected):
                await self._publish(b"online")
            await self._look_for_farewell()

    async def leave(self) -> None:
        """Say ``offline``. Raises `NotConnected`."""
        await self._publish(b"offline")

    def farewell(self) -> Will:
        """What the broker is to leave behind when it ends in good order; see `edge.broker.broker_watch`."""
        number = self._watch.farewell(self._clock.now_ms())
        return Will(self._farewell_topic, b"%d" % number, delay_s=SESSION_EXPIRY_S)

    async def _look_for_farewell(self) -> None:
        try:
            held = await self._link().read_retained(self._farewell_topic)
        except NotConnected:
            return  # the next connection looks
        except LinkError as error:
            log.error("a broker that goes back is not noticed", extra={"reason": str(error)})  # noqa: TRY400
        else:
            self._find(self._watch.looked(held.get(self._farewell_topic)))

    async def _publish(self, status: bytes) -> None:
        try:
            await self._link().publish(self.status, status, retain=True)
        except PublishRefusedError as error:
            reason = {"topic": self.status, "reason": str(error)}
            log.error("the broker refuses a publication", extra=reason)  # noqa: TRY400
