"""The broker of virtual time: what is on its way to it, what it hands on, and what devices keep while it is away.

A message takes the time of its line (`simulators.line`). What arrives while there is no broker is kept by its device if
it lasts, as `simulators.connections` keeps it, and else lost.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable

from devices.readings import Address, Channel
from simulators.device import OUTBOX_LIMIT
from simulators.virtual_gateway import Delivery

_OnTheWay = tuple[float, int, Delivery, bool]
"""When it arrives, a number of its own, what, and whether it waits for a broker."""


class VirtualBroker:
    """Hands what arrives to ``deliver`` while it is ``up``. Moments are seconds of the story."""

    def __init__(self, deliver: Callable[[Delivery], None]) -> None:
        self.up = True
        self.lost = 0
        """Messages that arrived while there was no broker, and that nobody kept."""
        self._deliver = deliver
        self._number = 0
        self._on_the_way: list[_OnTheWay] = []
        self._outboxes: dict[Address, deque[tuple[Channel, bytes]]] = {}

    @property
    def due_s(self) -> float:
        """When the next message arrives."""
        return self._on_the_way[0][0] if self._on_the_way else math.inf

    def send(self, delivery: Delivery, arrives_s: float, *, lasting: bool) -> None:
        """Put a message on its way; one that is ``lasting`` its device keeps while there is no broker."""
        self._number += 1
        heapq.heappush(self._on_the_way, (arrives_s, self._number, delivery, lasting))

    def pass_time(self, now_s: float) -> None:
        """Let all arrive that is due."""
        while self._on_the_way and self._on_the_way[0][0] <= now_s:
            _, _, delivery, lasting = heapq.heappop(self._on_the_way)
            if self.up:
                self._deliver(delivery)
            elif lasting and delivery.channel is not Channel.STATUS:
                outbox = self._outboxes.setdefault(delivery.address, deque(maxlen=OUTBOX_LIMIT))
                outbox.append((delivery.channel, delivery.payload))
            else:
                self.lost += 1

    def take_kept(self, address: Address) -> Iterable[tuple[Channel, bytes]]:
        """What a device has kept, to be sent now."""
        return self._outboxes.pop(address, ())
