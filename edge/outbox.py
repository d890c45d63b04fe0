"""What leaves: alarm publications and orders, in the order of their commit, until the broker has them.

A publication is a row of the commit that decided it, so a crash loses none. After a broken connection
everything from the first unacknowledged row on is sent again: a retained topic must never end on an older
version. On every connect the board on the broker is set right first.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from devices.topics import Topics
from edge.mqtt.link import NotConnected, PublishRefusedError
from edge.store.records import OrderStatus, Outgoing, OutgoingKind
from rules.alarms import Alarm

log = logging.getLogger("anlin.outbox")

WINDOW = 64
"""Publications on their way at once; far below any broker's receive maximum times its patience."""


class Publisher(Protocol):
    """The part of a link that the outbox needs."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """At QoS 1; returns when the broker has acknowledged, raises `NotConnected` if it has not."""

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        """What the broker holds."""


class _Retained(msgspec.Struct):
    """Of a retained alarm, what tells whether it is ours."""

    id: str
    node: str
    version: int


class Outbox:
    """Publishes rows of committed batches.

    ``board`` gives the committed standing alarms by id. ``on_sent(ids, orders)`` hears which rows are done
    and what became of the orders among them.
    """

    def __init__(
        self,
        publisher: Publisher,
        topics: Topics,
        node: str,
        *,
        now_ms: Callable[[], int],
        board: Callable[[], Mapping[str, Alarm]],
        on_sent: Callable[[Sequence[int], Sequence[tuple[str, OrderStatus]]], None],
    ) -> None:
        self._publisher = publisher
        self._topics = topics
        self._node = node
        self._now_ms = now_ms
        self._board = board
        self._on_sent = on_sent
        self._waiting: deque[Outgoing] = deque()
        self._news = asyncio.Event()
        self._connected = asyncio.Event()
        self._reconcile = False
        self.reconciled = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, rows: Iterable[Outgoing]) -> None:
        """Rows that are on disk now."""
        self._waiting.extend(rows)
        self._news.set()

    def replace(self, rows: Iterable[Outgoing]) -> None:
        """What the store holds, after a restart or a rebuild."""
        self._waiting = deque(rows)
        self._news.set()

    def connected(self) -> None:
        """There is a broker; its retained board may be anything."""
        self._reconcile = True
        self._connected.set()
        self._news.set()

    def disconnected(self) -> None:
        """Nothing leaves until the next `connected`."""
        self._connected.clear()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self._connected.wait()
            with suppress(NotConnected):
                if self._reconcile:
                    await self._set_board_right()
                await self._send_waiting()
                self._news.clear()
                if not self._waiting and not self._reconcile:
                    await self._news.wait()
                continue
            self._reconcile = True
            self._connected.clear()

    async def _send_waiting(self) -> None:
        while self._waiting:
            window = [self._waiting[place] for place in range(min(WINDOW, len(self._waiting)))]
            now = self._now_ms()
            results = await asyncio.gather(
                *(self._send(row) for row in window if row.expires_at is None or now < row.expires_at),
                return_exceptions=True,
            )
            sent = iter(results)
            done: list[int] = []
            orders: list[tuple[str, OrderStatus]] = []
            for row in window:
                if row.expires_at is not None and now >= row.expires_at:
                    log.warning("order expired before it could be sent", extra={"order": row.subject})
                    orders.append((row.subject, OrderStatus.EXPIRED))
                elif next(sent) is not None:
                    break
                elif row.kind is OutgoingKind.ORDER:
                    orders.append((row.subject, OrderStatus.SENT))
                done.append(row.id)
            while self._waiting and self._waiting[0].id in set(done):
                self._waiting.popleft()
            if done:
                self._on_sent(done, orders)
            failed = [result for result in results if result is not None]
            if failed:
                raise failed[0]

    async def _send(self, row: Outgoing) -> None:
        try:
            await self._publisher.publish(row.topic, row.payload, retain=row.retain)
        except PublishRefusedError as error:
            # Waiting would not help, and what is behind it must not wait; the board is set right on connecting.
            self.refused += 1
            log.error("the broker refuses a publication", extra={"topic": row.topic, "reason": str(error)})  # noqa: TRY400

    async def _set_board_right(self) -> None:
        """Clear our own retained alarms that do not stand, publish those that are missing."""
        held = await self._publisher.read_retained(self._topics.alarm("+"))
        board = dict(self._board())  # commits go on meanwhile; what they change follows as a row
        on_broker: dict[str, int] = {}
        for topic, payload in held.items():
            try:
                alarm = msgspec.json.decode(payload, type=_Retained)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # not an alarm of ours, so not ours to clear
            if alarm.node != self._node:
                continue
            if alarm.id in board:
                on_broker[alarm.id] = alarm.version
            else:
                self.reconciled += 1
                await self._publisher.publish(topic, b"", retain=True)
        waiting = {row.subject for row in self._waiting}
        for alarm_id, standing in board.items():
            if alarm_id not in waiting and on_broker.get(alarm_id, 0) < standing.version:
                self.reconciled += 1
                await self._publisher.publish(self._topics.alarm(alarm_id), standing.wire(), retain=True)
        self._reconcile = False
