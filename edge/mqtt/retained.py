"""Reading what the broker retains under a filter, beside the messages that come meanwhile.

The broker does not say where the retained messages end: they have been read when none came for half a second.
"""

import asyncio
import re

from edge.mqtt.connection import Connection
from edge.mqtt.link import Delivery, NotConnected

_QUIET_S = 0.5
_COLLECT_S = 10.0
_COLLECT_MAX_BYTES = 64 * 1024 * 1024


class Collection:
    """Retained messages under one filter, taken out of what comes."""

    def __init__(self, topic_filter: str) -> None:
        topics = re.escape(topic_filter).replace(r"\+", "[^/]*")
        topics = topics.replace(r"/\#", "(/.*)?").replace(r"\#", ".*")
        self._matches = re.compile(topics, re.DOTALL).fullmatch
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()
        self._room = _COLLECT_MAX_BYTES
        self.retained: dict[str, bytes] = {}

    def take(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The others."""
        others = []
        for delivery in deliveries:
            if delivery.packet_id is not None or not self._matches(delivery.topic):
                others.append(delivery)
            elif delivery.retain and self._room > 0:
                self._last = self._clock()
                self._room -= len(delivery.topic) + len(delivery.payload)
                self.retained[delivery.topic] = delivery.payload
        return others

    async def settle(self, connection: Connection) -> None:
        """Until nothing came for a while."""
        self._last = self._clock()
        end = self._last + _COLLECT_S
        while (wait_s := min(self._last + _QUIET_S, end) - self._clock()) > 0:
            await asyncio.wait({connection.lost}, timeout=wait_s)
            if connection.lost.done():
                raise NotConnected(connection.lost.result().reason)
