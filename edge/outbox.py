"""What leaves: alarm publications and orders, in the order of their commit, until the broker has them.

A publication is a row of the commit that decided it, so a crash loses none. After a broken connection
everything from the first unacknowledged row on is sent again: a retained topic must never end on an older
version. On every connect the board on the broker is set right first.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from devices.topics import Topics
from edge.mqtt.link import LinkError, NotConnected, PublishRefusedError
from edge.store.records import OrderStatus, Outgoing, OutgoingKind
from rules.alarms import Alarm

log = logging.getLogger("anlin.outbox")

ASK_AGAIN_S = 5.0
"""Until an alarm on the broker is looked at again of which the store could not say whether it knows it."""

WINDOW = 64
"""Publications on their way at once; far below any broker's receive maximum times its patience."""


class Publisher(Protocol):
    """The part of a link that the outbox needs."""

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        """At QoS 1; returns when the broker has acknowledged, raises `NotConnected` if it has not."""

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        """What the broker holds."""


class _Retained(msgspec.Struct):
    """Of a retained alarm, what tells whether it is ours."""

    id: str
    node: str
    version: int
    durable: bool = True


class Outbox:
    """Publishes rows of committed batches.

    ``board`` gives the committed standing alarms by id. ``on_sent(ids, orders)`` hears which rows are done
    and what became of the orders among them. ``adopt(payloads)`` is asked about retained alarms of ours that
    were never on disk: which are to stay on the broker, None to be asked again; they may come onto the board by this.
    ``on_adopted`` is called after the broker's board was looked through for them, on every connection.
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
        adopt: Callable[[Sequence[bytes]], Awaitable[Sequence[bool | None]]] | None = None,
        on_adopted: Callable[[], None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self._topics = topics
        self._node = node
        self._now_ms = now_ms
        self._board = board
        self._on_sent = on_sent
        self._adopt = adopt
        self._on_adopted = on_adopted
        self._waiting: deque[Outgoing] = deque()
        self._news = asyncio.Event()
        self._connected = asyncio.Event()
        self._reconcile = asyncio.Event()
        self._connection = 0
        self.reconciled = 0
        self.refused = 0
        self.orders_refused = 0
        self.denied: str | None = None
        """The broker's words where it refused the last publication of an alarm."""
        self.settled = 0
        """Rows that have left, were refused or have expired."""

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

    def postpone(self, by_ms: int) -> None:
        """The clock was set: orders that wait keep what is left of their time."""
        for place, row in enumerate(self._waiting):
            self._waiting[place] = row.postponed(by_ms)

    def connected(self) -> None:
        """There is a broker; its retained board may be anything."""
        self._connection += 1
        self._reconcile.set()
        self._connected.set()
        self._news.set()

    def set_right(self) -> None:
        """Compare the board with the broker's again, as on connecting: what was refused may be permitted now."""
        self._reconcile.set()

    def disconnected(self) -> None:
        """Nothing leaves until the next `connected`."""
        self._connected.clear()

    async def run(self) -> None:
        """Publish for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_rows(), name="outbox-rows")
            tasks.create_task(self._set_board_right(), name="outbox-board")

    async def _publish_rows(self) -> None:
        while True:
            await self._connected.wait()
            await self._news.wait()
            self._news.clear()
            connection = self._connection
            try:
                await self._send_waiting()
            except NotConnected:
                self._news.set()
                if connection == self._connection:
                    self._connected.clear()

    async def _send_waiting(self) -> None:
        while self._waiting:
            waiting = self._waiting
            window = list(islice(waiting, WINDOW))
            outcomes = await asyncio.gather(*map(self._send, window), return_exceptions=True)
            failure: BaseException | None = None
            done: list[int] = []
            orders: list[tuple[str, OrderStatus]] = []
            for row, outcome in zip(window, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    failure = outcome
                    break  # from here on everything is sent again, in order
                waiting.popleft()
                done.append(row.id)
                if row.kind is OutgoingKind.ORDER:
                    orders.append((row.subject, outcome))
            self._settle(waiting, done, orders)
            if failure is not None:
                raise failure

    def _settle(
        self, sent_from: deque[Outgoing], done: Sequence[int], orders: Sequence[tuple[str, OrderStatus]]
    ) -> None:
        stored = {number for number in done if number != UNSTORED}
        self.settled += len(done)
        if sent_from is not self._waiting:  # the store was read anew meanwhile, before it heard of these
            self._waiting = deque(row for row in self._waiting if row.id not in stored)
        if stored:
            self._on_sent(sorted(stored), orders)

    async def _send(self, row: Outgoing) -> OrderStatus:
        """What became of it. Raises `NotConnected`: it must be sent again."""
        expires_in_s = None
        if row.expires_at is not None:
            left_ms = row.expires_at - self._now_ms()
            if left_ms <= 0:
                log.warning("an order expired before it could be sent", extra={"order": row.subject})
                return OrderStatus.EXPIRED
            expires_in_s = max(1, left_ms // 1000)  # no broker keeps it for a device that comes too late
        try:
            await self._publisher.publish(
                row.topic, row.payload, retain=row.retain, expires_in_s=expires_in_s
            )
        except PublishRefusedError as error:
            # Waiting would not help, and what is behind it must not wait; the board is set right on connecting.
            self.refused += 1
            if row.kind is OutgoingKind.ORDER:
                self.orders_refused += 1
            else:
                self.denied = f"{row.topic}: {error}"
            log.error("the broker refuses a publication", extra={"topic": row.topic, "reason": str(error)})  # noqa: TRY400
            return OrderStatus.FAILED
        if row.kind is OutgoingKind.ALARM:
            self.denied = None
        return OrderStatus.SENT

    async def _set_board_right(self) -> None:
        """On every connection: clear our own retained alarms that do not stand, publish those missing.

        What it finds goes into the same queue as everything else, so no older version overtakes a newer one.
        """
        while True:
            await self._connected.wait()
            await self._reconcile.wait()
            self._reconcile.clear()
            try:
                held = await self._publisher.read_retained(self._topics.alarm("+"))
            except NotConnected:
                continue  # the next connection sets it right
            except LinkError as error:
                log.error("old alarms may stay on the broker", extra={"reason": str(error)})  # noqa: TRY400
                held = {}
            corrections = list(self._corrections(await self._without_adopted(held)))
            self._on_adopted()
            self.reconciled += len(corrections)
            self.add(corrections)

    async def _without_adopted(self, held: Mapping[str, bytes]) -> dict[str, bytes]:
        """What is left to be set right."""
        asked: dict[str, bytes] = {}
        for topic, payload in held.items():
            if self._adopt is None or b'"durable":false' not in payload:
                continue
            try:
                alarm = msgspec.json.decode(payload, type=_Retained)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            standing = self._board().get(alarm.id)
            known = standing is not None and standing.version >= alarm.version
            if alarm.node == self._node and not alarm.durable and not known:
                asked[topic] = payload
        if self._adopt is None or not asked:
            return dict(held)
        stay = await self._adopt(list(asked.values()))
        if None in stay:
            asyncio.get_running_loop().call_later(ASK_AGAIN_S, self.set_right)
        gone = {topic for topic, stays in zip(asked, stay, strict=True) if stays is not False}
        return {topic: payload for topic, payload in held.items() if topic not in gone}

    def _corrections(self, held: Mapping[str, bytes]) -> Iterator[Outgoing]:
        """What sets right what the broker will hold when everything that waits has left.

        What waits need not end with how it stands: the end of an alarm that was told early is no row of the store any
        more, and a gateway that was killed before it left knows the row of its beginning only.
        """
        board = self._board()
        waiting = {row.topic: row.payload for row in self._waiting if row.kind is OutgoingKind.ALARM}
        on_broker: dict[str, int] = {}
        for topic, payload in {**held, **waiting}.items():
            try:
                alarm = msgspec.json.decode(payload, type=_Retained)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # not an alarm of ours, so not ours to clear; or cleared by then
            if alarm.node != self._node:
                continue
            standing = board.get(alarm.id)
            stale = standing is not None and standing.durable and not alarm.durable
            on_broker[alarm.id] = alarm.version - stale
            if standing is None:
                yield _correction(alarm.id, topic, b"")
        for alarm_id, shown in board.items():
            if on_broker.get(alarm_id, 0) < shown.version:
                yield _correction(alarm_id, self._topics.alarm(alarm_id), shown.wire())


UNSTORED = 0
"""The id of a row that no commit holds."""


def _correction(alarm_id: str, topic: str, payload: bytes) -> Outgoing:
    return Outgoing(UNSTORED, OutgoingKind.ALARM, alarm_id, topic, payload, retain=True)
