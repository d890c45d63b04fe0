"""The session with the broker above one network connection; the same for both protocol versions.

Connects, subscribes and connects again for ever; tells the inbox and the log what changes; recognises a
second gateway with the same name; keeps publishing within the broker's window. What a connection is, is said by
`edge.mqtt.connection`. Everything here happens in one event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from devices.topics import Lane
from edge.mqtt.backoff import Backoff
from edge.mqtt.connection import REFUSED, Connect, Connection, Loss
from edge.mqtt.link import (
    Connected,
    Delivery,
    Inbox,
    LinkRefused,
    LinkSettings,
    NotConnected,
)
from edge.mqtt.rejections import CONNECT_TIMEOUT_S, RejectedError, advice
from edge.mqtt.retained import Collection

STABLE_S = 5.0
"""A connection that lasted this long was a good one."""

_SUBSCRIBE_TIMEOUT_S = 30.0
_NOTICE_TRIES = 2  # connections that may end while they ask for notices, before nobody asks any more
_FIGHTS = 3

log = logging.getLogger("anlin.mqtt")

Turn = Callable[[], Awaitable[None]]
"""Returns when it is this link's turn to connect; must be bounded."""


class Session:
    """A `Link` over whatever ``connect`` opens. ``turn`` is waited for before each connection."""

    def __init__(
        self,
        lane: Lane,
        settings: LinkSettings,
        inbox: Inbox,
        *,
        connect: Connect,
        backoff: Backoff | None = None,
        turn: Turn | None = None,
    ) -> None:
        self._lane = lane
        self._settings = settings
        self._inbox = inbox
        self._connect = connect
        self._backoff = backoff or Backoff()
        self._turn = turn
        self._number = 0
        self._fights = 0
        self._current: Connection | None = None
        self._window = asyncio.Semaphore(0)
        self._paused = False
        self._collecting = asyncio.Lock()
        self._collection: Collection | None = None
        self._notices_unanswered = 0
        self._without_notices = False
        self._said = ""

    async def run(self) -> None:
        """See `Link`."""
        while True:
            if self._turn is not None:
                await self._turn()
            self._number += 1
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    connection = await self._connect(self._settings, self._number, self._deliver)
            except (RejectedError, OSError) as error:
                self._fights = 0
                self._say(logging.WARNING, f"{advice(error, self._settings)}; trying again")
            else:
                await self._stay(connection)
            await asyncio.sleep(self._backoff.next_s())

    async def _stay(self, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        since = clock()
        rejected: Loss | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.shield(connection.accepted)
            since = clock()
            await self._subscribe(connection)
            self._announce(connection)
            await self._subscribe_to_notices(connection)
            await asyncio.shield(connection.lost)
        except NotConnected:
            pass  # `lost` says why
        except (RejectedError, OSError) as error:
            rejected = Loss(advice(error, self._settings))
        finally:
            await connection.close()
            lost = connection.lost.result() if connection.lost.done() else Loss("the broker does not let go")
            loss = rejected or lost
            if self._current is connection:
                self._current = None
                self._inbox.disconnected(self._lane, connection.number, loss.reason)
        self._say(logging.WARNING, f"{loss.reason}; trying again")
        self._learn(loss, 0.0 if rejected else clock() - since)

    def _learn(self, loss: Loss, lasted_s: float) -> None:
        if lasted_s >= STABLE_S:
            self._backoff.reset()
        self._fights = self._fights + 1 if loss.contested and lasted_s < STABLE_S else 0
        if self._fights == _FIGHTS:
            raise LinkRefused(
                f"{self._where()} closed the connection {_FIGHTS} times at once: another gateway uses the"
                f" same node name (client identifier {self._settings.client_id!r});"
                " give one of them another `node:`"
            )

    async def _subscribe(self, connection: Connection) -> None:
        filters = self._settings.filters
        try:
            async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                codes = await connection.subscribe(filters, 1)
        except TimeoutError:
            raise RejectedError("the broker does not answer the subscription") from None
        if len(codes) != len(filters):
            raise RejectedError("the broker's answer to the subscription does not fit it")
        for topic_filter, code in zip(filters, codes, strict=True):
            if code >= REFUSED:
                raise RejectedError(
                    f"the broker refuses the subscription to {topic_filter} (reason 0x{code:02x}):"
                    " permit this user to read it in the broker's access control list"
                )
            if code != 1:
                raise RejectedError(
                    f"the broker grants QoS {code} for {topic_filter}, and QoS 1 is needed to lose nothing:"
                    " raise the maximum QoS in the broker's configuration"
                )

    async def _subscribe_to_notices(self, connection: Connection) -> None:
        """Not insisted on: messages of devices come without it, so no broker may fail us because of it."""
        notices = self._settings.notices
        if not notices:
            return
        refused = True
        if self._notices_unanswered < _NOTICE_TRIES:
            self._notices_unanswered += 1  # some brokers close the connection instead of refusing
            with suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                    refused = any(code >= REFUSED for code in await connection.subscribe(notices, 0))
                self._notices_unanswered = 0
        if refused and not self._without_notices:
            self._without_notices = True
            log.info("%s: the broker does not tell what it drops (%s)", self._lane, ", ".join(notices))

    def _announce(self, connection: Connection) -> None:
        if self._current is connection:
            return
        self._current = connection
        self._window = asyncio.Semaphore(connection.send_maximum)
        if self._paused:
            connection.pause_reading()
        session = "session resumed" if connection.session_present else "new session"
        self._say(logging.INFO, f"connected to {self._where()}, {session}")
        self._inbox.connected(
            Connected(
                self._lane,
                connection.number,
                connection.session_present,
                connection.receive_maximum,
                connection.broker_maximum,
            )
        )

    def _deliver(self, connection: Connection, deliveries: list[Delivery]) -> None:
        self._announce(connection)
        if self._collection is not None:
            deliveries = self._collection.take(deliveries)
        if self._settings.notices:
            deliveries = self._take_notices(deliveries)
        if deliveries:
            self._inbox.received(self._lane, connection.number, deliveries)

    def _take_notices(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The others. No wildcard matches a topic that begins with ``$``, so each of them was asked for."""
        others = [each for each in deliveries if each.packet_id is not None or each.topic[:1] != "$"]
        if len(others) < len(deliveries):
            for each in deliveries:
                if each.packet_id is None and each.topic[:1] == "$":
                    self._inbox.noticed(each.topic, each.payload, retained=each.retain)
        return others

    def acknowledge(self, connection: int, packet_ids: Sequence[int]) -> None:
        """See `Link`."""
        if self._current is not None and self._current.number == connection:
            self._current.acknowledge(packet_ids)

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        """See `Link`."""
        connection, window = self._connected(), self._window
        await window.acquire()
        try:
            published = connection.publish(topic, payload, retain=retain, expires_in_s=expires_in_s)
        except BaseException:  # raised again
            window.release()
            raise
        # The place is free when the broker has answered, not when the caller has lost patience.
        published.add_done_callback(lambda _: window.release())
        await asyncio.shield(published)

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        """See `Link`."""
        async with self._collecting:
            connection = self._connected()
            collection = self._collection = Collection(topic_filter)
            try:
                codes = await connection.subscribe([topic_filter], 0)
                if any(code >= REFUSED for code in codes):
                    raise RejectedError(f"the broker refuses the subscription to {topic_filter}")
                await collection.settle(connection)
                await connection.unsubscribe(topic_filter)
            finally:
                self._collection = None
            return collection.retained

    def pause_reading(self) -> None:
        """See `Link`."""
        self._paused = True
        if self._current is not None:
            self._current.pause_reading()

    def resume_reading(self) -> None:
        """See `Link`."""
        self._paused = False
        if self._current is not None:
            self._current.resume_reading()

    def reconnect(self, reason: str) -> None:
        """See `Link`."""
        if self._current is not None:
            self._say(logging.WARNING, f"connecting anew: {reason}")
            self._current.disconnect()

    def _connected(self) -> Connection:
        if self._current is None:
            raise NotConnected(f"no connection to {self._where()}")
        return self._current

    def _where(self) -> str:
        return f"the broker at {self._settings.host}:{self._settings.port}"

    def _say(self, level: int, text: str) -> None:
        """Log a change once, however often it is tried again."""
        if text != self._said:
            self._said = text
            log.log(level, "%s: %s", self._lane, text)
