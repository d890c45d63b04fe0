"""edge.outbox: what leaves, in order, until the broker has it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import msgspec
import pytest

from devices.topics import Topics
from edge.mqtt.link import LinkError, NotConnected, PublishRefusedError
from edge.outbox import Outbox
from edge.store.records import OrderStatus, Outgoing, OutgoingKind
from rules.alarms import Alarm
from tests.store_samples import alarm as sample
from tests.waiting import until

TOPICS = Topics("community", "c1")
NOW = 1_000_000


class Broker:
    """Takes what it is given, unless told otherwise."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.held: dict[str, bytes] = {}
        self.expiring: dict[str, int] = {}
        self.breaks_after: int | None = None
        self.refuses = ""
        self.hides_alarms = False
        self.waits = asyncio.Event()
        self.waits.set()

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        await self.waits.wait()
        if self.breaks_after is not None and len(self.taken) >= self.breaks_after:
            raise NotConnected("broken")
        if topic == self.refuses:
            raise PublishRefusedError("not authorised")
        self.taken.append((topic, payload))
        if expires_in_s is not None:
            self.expiring[topic] = expires_in_s
        if retain:
            self.held[topic] = payload

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        assert topic_filter == "community/c1/alarm/+"
        if self.hides_alarms:
            raise LinkError("not authorised")
        await asyncio.sleep(0)
        return {topic: payload for topic, payload in self.held.items() if payload}


class World(SimpleNamespace):
    """An outbox, its broker, the board, and what it has said was sent."""

    broker: Broker
    outbox: Outbox
    board: dict[str, Alarm]
    sent: list[int]
    orders: list[tuple[str, OrderStatus]]
    now: int


@asynccontextmanager
async def outbox(
    adopt: Callable[[Sequence[bytes]], Awaitable[Sequence[bool | None]]] | None = None,
) -> AsyncIterator[World]:
    world = World(broker=Broker(), board={}, sent=[], orders=[], now=NOW)

    def on_sent(ids: Sequence[int], orders: Sequence[tuple[str, OrderStatus]]) -> None:
        world.sent.extend(ids)
        world.orders.extend(orders)

    world.outbox = Outbox(
        world.broker,
        TOPICS,
        "gw-1",
        now_ms=lambda: world.now,
        board=lambda: world.board,
        on_sent=on_sent,
        adopt=adopt,
    )
    running = asyncio.create_task(world.outbox.run())
    try:
        yield world
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def row(number: int, subject: str = "A", payload: bytes | None = None) -> Outgoing:
    body = b"%d" % number if payload is None else payload
    return Outgoing(number, OutgoingKind.ALARM, subject, TOPICS.alarm(subject), body, retain=True)


def order(number: int, expires_at: int) -> Outgoing:
    topic = TOPICS.command("charger", "p1")
    return Outgoing(
        number, OutgoingKind.ORDER, f"O{number}", topic, b"{}", retain=False, expires_at=expires_at
    )


def standing(number: int) -> Alarm:
    return sample(number)


def test_rows_leave_in_order_once_there_is_a_broker() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.outbox.add([row(number) for number in range(1, 301)])
            await asyncio.sleep(0)
            assert world.broker.taken == []
            world.outbox.connected()
            await until(lambda: len(world.sent) == 300)
            assert [payload for _, payload in world.broker.taken] == [
                b"%d" % number for number in range(1, 301)
            ]
            assert world.sent == list(range(1, 301))
            assert len(world.outbox) == 0
            world.outbox.add([row(301)])
            await until(lambda: len(world.sent) == 301)

    asyncio.run(scene())


def test_after_a_break_everything_from_the_first_that_was_not_acknowledged_is_sent_again() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.broker.breaks_after = 10
            world.outbox.connected()
            world.outbox.add([row(number) for number in range(1, 41)])
            await until(lambda: len(world.sent) == 10)
            world.outbox.disconnected()
            world.broker.breaks_after = None
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(world.broker.taken) == 10
            world.outbox.connected()
            await until(lambda: len(world.sent) == 40)
            assert world.sent == list(range(1, 41))
            assert world.broker.held[TOPICS.alarm("A")] == b"40"  # never an older version last

    asyncio.run(scene())


def test_an_order_is_never_sent_after_it_has_expired_and_holds_up_nothing() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.outbox.add([order(1, NOW), row(2), order(3, NOW + 1), row(4)])
            world.outbox.connected()
            await until(lambda: world.sent == [1, 2, 3, 4])
            assert [payload for _, payload in world.broker.taken] == [b"2", b"{}", b"4"]
            assert world.orders == [("O1", OrderStatus.EXPIRED), ("O3", OrderStatus.SENT)]

    asyncio.run(scene())


def test_the_broker_hears_how_long_an_order_counts_and_keeps_alarms_for_ever() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.outbox.add([row(1), order(2, NOW + 29_999)])
            world.outbox.connected()
            await until(lambda: world.sent == [1, 2])
            assert world.broker.expiring == {TOPICS.command("charger", "p1"): 29}

    asyncio.run(scene())


def test_a_publication_that_the_broker_refuses_holds_up_nothing() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.broker.refuses = TOPICS.alarm("X")
            world.outbox.add([row(1), row(2, "X"), row(3)])
            world.outbox.connected()
            await until(lambda: world.sent == [1, 2, 3])
            assert world.outbox.refused == 1

    asyncio.run(scene())


def test_on_every_connection_the_brokers_board_is_made_ours() -> None:
    async def scene() -> None:
        async with outbox() as world:
            stands, missing, older = standing(1), standing(2), standing(3)
            newer = msgspec.structs.replace(older, version=2)
            gone = standing(4)
            foreign = msgspec.structs.replace(standing(5), node="gw-2")
            world.broker.held = {
                TOPICS.alarm(each.id): each.wire() for each in (stands, older, gone, foreign)
            }
            world.broker.held[TOPICS.alarm("odd")] = b"\xff"
            world.board.update({each.id: each for each in (stands, missing, newer)})
            world.outbox.connected()
            await until(lambda: len(world.broker.taken) == 3)
            assert dict(world.broker.taken) == {
                TOPICS.alarm(gone.id): b"",
                TOPICS.alarm(missing.id): missing.wire(),
                TOPICS.alarm(newer.id): newer.wire(),
            }
            assert world.broker.held[TOPICS.alarm(foreign.id)] == foreign.wire()
            assert world.broker.held[TOPICS.alarm("odd")] == b"\xff"
            assert world.sent == []  # corrections are rows of no commit
            assert world.outbox.reconciled == 3
            world.broker.held.clear()
            world.outbox.disconnected()
            world.outbox.connected()
            await until(lambda: len(world.broker.held) == 3)

    asyncio.run(scene())


def test_commits_go_on_while_the_board_is_set_right_and_the_newest_version_stays() -> None:
    async def scene() -> None:
        async with outbox() as world:
            alarms = [standing(number) for number in range(1, 101)]
            world.board.update({each.id: each for each in alarms})
            world.broker.waits.clear()
            world.outbox.connected()
            await until(lambda: len(world.outbox) == 100)
            for number, each in enumerate(alarms):  # meanwhile half of them change and half leave
                if number % 2:
                    changed = msgspec.structs.replace(each, version=2)
                    world.board[each.id] = changed
                    world.outbox.add([row(number + 1, each.id, changed.wire())])
                else:
                    del world.board[each.id]
                    world.outbox.add([row(number + 1, each.id, b"")])
            world.broker.waits.set()
            await until(lambda: len(world.sent) == 100)
            held = {topic: json.loads(payload) for topic, payload in world.broker.held.items() if payload}
            assert held == {TOPICS.alarm(each.id): json.loads(each.wire()) for each in world.board.values()}
            assert {each["version"] for each in held.values()} == {2}

    asyncio.run(scene())


def test_a_row_that_was_left_over_by_a_crash_does_not_bring_back_what_has_ended_nor_what_was_before() -> None:
    async def scene() -> None:
        async with outbox() as world:
            gone, older = standing(1), standing(2)
            newer = msgspec.structs.replace(older, version=2)
            world.board[newer.id] = newer
            world.outbox.replace([row(7, gone.id, gone.wire()), row(8, older.id, older.wire())])
            world.outbox.connected()
            await until(lambda: len(world.broker.taken) == 4)
            assert world.broker.held == {TOPICS.alarm(gone.id): b"", TOPICS.alarm(newer.id): newer.wire()}

    asyncio.run(scene())


def test_an_alarm_of_which_the_store_cannot_say_whether_it_knows_it_is_asked_about_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.outbox.ASK_AGAIN_S", 0.01)
    answers = iter((None, None, False))

    async def adopt(payloads: Sequence[bytes]) -> list[bool | None]:
        return [next(answers) for _ in payloads]

    async def scene() -> None:
        async with outbox(adopt) as world:
            gone = msgspec.structs.replace(standing(1), durable=False)
            world.broker.held = {TOPICS.alarm(gone.id): gone.wire()}
            world.outbox.connected()
            await until(lambda: world.broker.taken == [(TOPICS.alarm(gone.id), b"")])

    asyncio.run(scene())


def test_where_the_broker_hides_its_board_ours_is_published_all_the_same() -> None:
    async def scene() -> None:
        async with outbox() as world:
            world.broker.hides_alarms = True
            stands = standing(1)
            world.board[stands.id] = stands
            world.outbox.connected()
            await until(lambda: world.broker.taken == [(TOPICS.alarm(stands.id), stands.wire())])
            world.outbox.add([row(1)])
            await until(lambda: world.sent == [1])

    asyncio.run(scene())
