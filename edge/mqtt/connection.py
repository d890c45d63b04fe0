"""One network connection to the broker, from CONNACK to its end: what the session needs of it, in both versions.

Here is who waits for which answer, and that nobody waits any more when the connection has ended. What goes over
the wire is said by `edge.mqtt.five` and `edge.mqtt.three`; who connects again is `edge.mqtt.session`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from edge.mqtt.link import Delivery, LinkSettings, NotConnected, PublishRefusedError
from edge.mqtt.rejections import RejectedError

REFUSED = 0x80
"""Reason codes from here on are failures."""

_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a connection ended."""

    reason: str
    contested: bool = False
    """The broker closed it and did not say why, as Mosquitto does when another client takes the session."""


class Connection(ABC):
    """One network connection from CONNACK to its end; it is never used again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.session_present = False
        self.receive_maximum = 20
        self.broker_maximum: int | None = None
        self.send_maximum = 20
        """Publishes that may wait for PUBACK; 20 is what brokers allow under MQTT 3.1.1 unless configured."""
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        """Done by CONNACK. Raises `RejectedError` or `OSError` instead."""
        self.lost: asyncio.Future[Loss] = loop.create_future()
        self._publishing: dict[int, asyncio.Future[None]] = {}
        self._subscribing: dict[int, asyncio.Future[Sequence[int]]] = {}

    @abstractmethod
    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK; nothing if the connection is gone."""

    @abstractmethod
    def publish(
        self, topic: str, payload: bytes, *, retain: bool, expires_in_s: int | None
    ) -> asyncio.Future[None]:
        """Publish at QoS 1; the future is done by PUBACK. Raises `NotConnected`, `PublishRefusedError`."""

    @abstractmethod
    def subscribe(self, filters: Sequence[str], qos: int) -> asyncio.Future[Sequence[int]]:
        """Subscribe; the future brings one reason code a filter. Raises `NotConnected`."""

    @abstractmethod
    def unsubscribe(self, topic_filter: str) -> asyncio.Future[Sequence[int]]:
        """Unsubscribe. Raises `NotConnected`."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Leave what comes in the network."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again."""

    @abstractmethod
    def disconnect(self) -> None:
        """DISCONNECT, so that the broker publishes no will, and let go; `lost` follows."""

    @abstractmethod
    def abort(self) -> None:
        """Let go at once; `lost` follows."""

    async def close(self) -> None:
        """Disconnect and wait for the end, with force after a second."""
        if self.lost.done():
            return
        self.disconnect()
        await asyncio.wait({self.lost}, timeout=_CLOSE_TIMEOUT_S)
        self.abort()

    def _acknowledged(self, packet_id: int, code: int, name: str) -> None:
        waiting = self._publishing.pop(packet_id, None)
        if waiting is None:
            return
        if code < REFUSED:
            waiting.set_result(None)
        else:
            waiting.set_exception(PublishRefusedError(f"the broker refuses the message ({name})"))

    def _granted(self, packet_id: int, codes: Sequence[int]) -> None:
        waiting = self._subscribing.pop(packet_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(codes)

    def _reject(self, error: Exception) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(error)
            self.accepted.exception()  # whoever waited for it may have been cancelled

    def _ended(self, loss: Loss) -> None:
        """Whoever waits for an answer of this connection waits no longer."""
        if self.lost.done():
            return
        self.lost.set_result(loss)
        self._reject(RejectedError(loss.reason))
        for published in self._publishing.values():
            published.set_exception(NotConnected(loss.reason))
            published.exception()  # whoever waited for it may have been cancelled
        for answer in self._subscribing.values():
            if not answer.done():
                answer.set_exception(NotConnected(loss.reason))
        self._publishing.clear()
        self._subscribing.clear()


Deliver = Callable[[Connection, list[Delivery]], None]
Connect = Callable[[LinkSettings, int, Deliver], Awaitable[Connection]]
"""Opens the network connection with this number and sends CONNECT; raises `RejectedError` or `OSError`."""
