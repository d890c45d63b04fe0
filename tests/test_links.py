import asyncio
import base64
import hashlib
import logging
import os
import random
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import aiomqtt
import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.topics import Lane
from edge.mqtt.backoff import Backoff
from edge.mqtt.embedded import EmbeddedBroker, EmbeddedBrokerError
from edge.mqtt.five import MalformedPacketError, PacketReader, mqtt5_link
from edge.mqtt.link import (
    Connected,
    Delivery,
    LinkRefused,
    LinkSettings,
    NotConnected,
    PublishRefusedError,
    Tls,
    Will,
)
from edge.mqtt.session import Session
from edge.mqtt.three import mqtt311_link
from tests.servers import HOST, OPEN, Mosquitto, free_port
from tests.waiting import until as soon
from tests.wire import Wire

pytestmark = pytest.mark.timed

TIMEOUT_S = 15.0
DAY_S = 86_400
FILTERS = ("community/c1/charger/+/telemetry", "community/c1/charger/+/status")
TELEMETRY = "community/c1/charger/p01/telemetry"
STATUS = "community/c1/charger/p01/status"
ALARMS = "community/c1/alarm/+"
GATEWAY = "community/c1/gateway/gw-1/status"
WILL = Will(GATEWAY, b"offline")

MakeLink = Callable[..., Session]
both = pytest.mark.parametrize(
    "make", [pytest.param(mqtt5_link, id="mqtt5"), pytest.param(mqtt311_link, id="mqtt311")]
)


class Inbox:
    """Keeps what a link says; `until` waits for a condition on it."""

    def __init__(self) -> None:
        self.connections: list[Connected] = []
        self.received_in: list[tuple[int, Delivery]] = []
        self.notices: list[tuple[str, bytes, bool]] = []
        self.losses: list[str] = []
        self.attempts = 0
        """Connections that failed or ended."""
        self._changed = asyncio.Event()

    def connected(self, connected: Connected) -> None:
        self.connections.append(connected)
        self._changed.set()

    def received(self, lane: Lane, connection: int, deliveries: Sequence[Delivery]) -> None:
        assert lane is Lane.BULK
        assert self.connections[-1].connection == connection, "a delivery before its connection"
        self.received_in += [(connection, delivery) for delivery in deliveries]
        self._changed.set()

    def noticed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        self.notices.append((topic, payload, retained))
        self._changed.set()

    def disconnected(self, lane: Lane, connection: int, reason: str) -> None:
        assert lane is Lane.BULK
        assert self.connections[-1].connection == connection
        self.losses.append(reason)
        self._changed.set()

    def waited(self) -> None:
        self.attempts += 1
        self._changed.set()

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for _, delivery in self.received_in]

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]

    def ids(self) -> list[int]:
        return [each.packet_id for each in self.deliveries if each.packet_id is not None]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Impatience(Backoff):
    """Comes back quickly, and tells the inbox each time that there is a reason to."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(0.05, 0.2)
        self._inbox = inbox

    def next_s(self) -> float:
        self._inbox.waited()
        return super().next_s()


def settings(port: int, **changes: Any) -> LinkSettings:
    wanted: dict[str, Any] = {"client_id": "c1-gw-1-bulk", "filters": FILTERS} | changes
    return LinkSettings(HOST, port, **wanted)


@asynccontextmanager
async def running(
    make: MakeLink, port: int, *, connected: bool = True, **changes: Any
) -> AsyncIterator[tuple[Session, Inbox]]:
    """A link that runs while the block does, and comes back quickly when it loses the broker."""
    inbox = Inbox()
    link = make(Lane.BULK, settings(port, **changes), inbox, backoff=Impatience(inbox))
    task = asyncio.create_task(link.run())
    try:
        if connected:
            await inbox.until(lambda: bool(inbox.connections))
        yield link, inbox
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Proxy:
    """Stands between link and broker and cuts the line when told."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(HOST, self._target)
        self._writers += [writer, broker_writer]
        for source, sink in ((reader, broker_writer), (broker_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()


async def publish(port: int, *messages: tuple[str, bytes], qos: int = 1, retain: bool = False) -> None:
    """As a device does."""
    async with aiomqtt.Client(HOST, port) as device:
        for topic, payload in messages:
            await device.publish(topic, payload, qos=qos, retain=retain)


async def retained(port: int, topic: str) -> bytes | None:
    """What the broker holds under a topic, None if nothing: a marker tells that all of it has come."""
    async with aiomqtt.Client(HOST, port) as watcher:
        await watcher.subscribe(topic, qos=1)
        await watcher.subscribe("marker", qos=1)
        await watcher.publish("marker", b"", qos=1)
        async for message in watcher.messages:
            if message.topic.matches("marker"):
                return None
            if message.retain:
                assert isinstance(message.payload, bytes)
                return message.payload
    raise AssertionError("unreachable")


async def until_retained(port: int, topic: str, payload: bytes) -> None:
    async with asyncio.timeout(TIMEOUT_S), aiomqtt.Client(HOST, port) as watcher:
        await watcher.subscribe(topic, qos=1)
        async for message in watcher.messages:
            if message.payload == payload:
                break
    assert await retained(port, topic) == payload


def numbered(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    return [(TELEMETRY, b"%d" % number) for number in range(first, first + count)]


def payloads(count: int, first: int = 0) -> list[bytes]:
    return [payload for _, payload in numbered(count, first)]


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records if record.name == "anlin.mqtt")


# --- delivering and acknowledging -------------------------------------------------------------------------


@both
def test_messages_come_in_the_order_they_were_sent(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (link, inbox):
            await publish(broker.port, *numbered(300))
            seen = 0
            while seen < 300:
                await inbox.until(lambda: len(inbox.deliveries) > seen)  # noqa: B023 - awaited here
                link.acknowledge(1, inbox.ids()[seen:])
                seen = len(inbox.deliveries)
            assert inbox.payloads == payloads(300)
            assert {each.topic for each in inbox.deliveries} == {TELEMETRY}
            assert not any(each.dup or each.retain for each in inbox.deliveries)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_what_was_not_acknowledged_comes_again_and_nothing_else(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with Proxy(broker.port) as proxy, running(make, proxy.port) as (link, inbox):
            assert not inbox.connections[0].session_present
            await publish(broker.port, *numbered(10))
            await inbox.until(lambda: len(inbox.deliveries) == 10)
            ids = inbox.ids()
            link.acknowledge(1, ids[:4])
            await link.publish(GATEWAY, b"online")  # answered after the acknowledgements, so they are there
            proxy.cut()
            await inbox.until(lambda: len(inbox.deliveries) == 16)
            again = inbox.deliveries[10:]
            assert inbox.connections[1].session_present
            assert [each.payload for each in again] == payloads(6, first=4)
            assert [each.packet_id for each in again] == ids[4:]
            assert all(each.dup for each in again)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_an_acknowledgement_of_an_older_connection_is_dropped(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with Proxy(broker.port) as proxy, running(make, proxy.port) as (link, inbox):
            await publish(broker.port, *numbered(3))
            await inbox.until(lambda: len(inbox.deliveries) == 3)
            ids = inbox.ids()
            proxy.cut()
            await inbox.until(lambda: len(inbox.deliveries) == 6)
            link.acknowledge(inbox.connections[0].connection, ids)
            await link.publish(GATEWAY, b"online")
            proxy.cut()
            await inbox.until(lambda: len(inbox.deliveries) == 9)
            link.acknowledge(inbox.connections[2].connection, ids)
            link.reconnect("a third cut would look like a second gateway")
            await inbox.until(lambda: len(inbox.connections) == 4)
            await publish(broker.port, (TELEMETRY, b"the next"))
            await inbox.until(lambda: inbox.payloads[-1] == b"the next")
            assert inbox.payloads == payloads(3) * 3 + [b"the next"]

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_session_survives_a_restart_of_the_broker(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (_, inbox):
            await publish(broker.port, *numbered(5))
            await inbox.until(lambda: len(inbox.deliveries) == 5)
            await asyncio.to_thread(broker.restart)
            await inbox.until(lambda: len(inbox.deliveries) == 10)
            assert inbox.connections[-1].session_present
            assert inbox.payloads == payloads(5) * 2
            assert [each.connection for each in inbox.connections] == sorted(
                {each.connection for each in inbox.connections}
            )

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_retained_message_is_old_news_only_when_it_comes_by_subscribing(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        await publish(broker.port, (STATUS, b"offline"), retain=True)
        async with running(make, broker.port) as (_, inbox):
            await inbox.until(lambda: len(inbox.deliveries) == 1)
            await publish(broker.port, (STATUS, b"online"), retain=True)
            await inbox.until(lambda: len(inbox.deliveries) == 2)
            assert [(each.payload, each.retain) for each in inbox.deliveries] == [
                (b"offline", True),
                (b"online", False),
            ]

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_message_of_one_mebibyte_passes(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        picture = random.Random(1).randbytes(1024 * 1024)
        async with running(make, broker.port) as (_, inbox):
            await publish(broker.port, (TELEMETRY, picture), (TELEMETRY, b"{}"))
            await inbox.until(lambda: len(inbox.deliveries) == 2)
            assert inbox.payloads == [picture, b"{}"]

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_the_shipped_configuration_of_mosquitto_lets_thousands_of_messages_wait(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (_, inbox):
            assert inbox.connections[0].receive_maximum == (4096 if make is mqtt5_link else 20)
            await publish(broker.port, *numbered(1_500))
            await inbox.until(lambda: len(inbox.deliveries) == 1_500)
            assert inbox.payloads == payloads(1_500)

    with Mosquitto.as_shipped() as broker:
        asyncio.run(scenario(broker))


@both
def test_while_reading_is_paused_a_flood_stays_outside(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        flood = [(TELEMETRY, bytes(512 * 1024))] * 40
        async with running(make, broker.port) as (link, inbox):
            link.pause_reading()
            await publish(broker.port, *flood, qos=0)
            await publish(broker.port, (STATUS, b"the flood is at the broker"))
            assert len(inbox.deliveries) <= 4
            link.resume_reading()
            await inbox.until(lambda: len(inbox.deliveries) == len(flood) + 1)
            assert sum(each.packet_id is None for each in inbox.deliveries) == len(flood)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


# --- publishing -------------------------------------------------------------------------------------------


@both
def test_what_was_published_is_at_the_broker_and_can_be_read_back(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (link, inbox):
            alarms = {f"community/c1/alarm/{number}": b"alarm %d" % number for number in range(50)}
            await asyncio.gather(
                *(link.publish(topic, payload, retain=True) for topic, payload in alarms.items())
            )
            await link.publish("community/c1/alarm/gone", b"not retained")
            await link.publish("community/c1/alarm/3", b"", retain=True)
            del alarms["community/c1/alarm/3"]
            assert await link.read_retained(ALARMS) == alarms
            assert await link.read_retained("community/c1/nothing/#") == {}
            assert inbox.deliveries == []

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_reading_what_is_retained_leaves_the_other_messages_alone(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (link, inbox):
            reading = asyncio.create_task(link.read_retained(ALARMS))
            await publish(broker.port, *numbered(10))
            await inbox.until(lambda: len(inbox.deliveries) == 10)
            assert await reading == {}
            assert inbox.payloads == payloads(10)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_publishing_fails_when_the_broker_dies_before_it_answers(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (link, inbox):
            broker.freeze()
            publishing = [
                asyncio.create_task(link.publish(GATEWAY, b"%d" % number)) for number in range(1_500)
            ]
            reading = asyncio.create_task(link.read_retained(ALARMS))
            await asyncio.sleep(0)
            broker.kill9()
            results = await asyncio.gather(*publishing, reading, return_exceptions=True)
            assert {type(result) for result in results} == {NotConnected}
            await inbox.until(lambda: len(inbox.losses) == 1)
            with pytest.raises(NotConnected):
                await link.publish(GATEWAY, b"online")

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_message_that_expires_carries_its_time_where_the_protocol_has_one(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (link, _):
            await link.publish("community/c1/charger/p01/command", b"{}", expires_in_s=30)
            await link.publish("community/c1/charger/p01/command", b"{}")

    with Mosquitto() as broker, Wire(broker.port) as device:
        device.subscribe("charger/p01/command")
        asyncio.run(scenario(broker))
        device.wait(lambda: len(device.heard) == 2)
        expiring, lasting = device.heard
        assert expiring.message_expiry_interval in ({29, 30} if make is mqtt5_link else {None})
        assert lasting.message_expiry_interval is None


def test_a_message_the_broker_does_not_want_is_refused_for_good(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite community/#\n")

    async def scenario(broker: Mosquitto) -> None:
        async with running(mqtt5_link, broker.port) as (link, inbox):
            with pytest.raises(PublishRefusedError, match="NOT_AUTHORIZED"):
                await link.publish("elsewhere", b"")
            with pytest.raises(PublishRefusedError, match="2,000"):
                await link.publish(GATEWAY, bytes(3_000))
            await link.publish(GATEWAY, b"online")
            assert inbox.losses == []

    with Mosquitto(f"{OPEN}\nmax_packet_size 2000\nacl_file {tmp_path}/acl\n") as broker:
        asyncio.run(scenario(broker))


# --- what the broker says of itself -----------------------------------------------------------------------

UPTIME = "$SYS/broker/uptime"


@both
def test_notices_come_apart_from_messages_and_again_on_each_connection(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port, notices=(UPTIME,)) as (link, inbox):
            await inbox.until(lambda: len(inbox.notices) >= 2)
            assert [topic for topic, _, _ in inbox.notices[:2]] == [UPTIME] * 2
            assert [retained for _, _, retained in inbox.notices[:2]] == [True, False]
            seen = len(inbox.notices)
            link.reconnect("to hear it again")
            await inbox.until(lambda: any(retained for _, _, retained in inbox.notices[seen:]))
            await publish(broker.port, *numbered(3))
            await inbox.until(lambda: len(inbox.deliveries) == 3)
            assert inbox.payloads == payloads(3)
            assert inbox.connections[0].broker_maximum == (4_096 if make is mqtt5_link else None)

    with Mosquitto(f"{OPEN}\nsys_interval 1\n") as broker:
        asyncio.run(scenario(broker))


@both
@pytest.mark.parametrize("closes", [False, True], ids=["refuses", "closes the connection"])
def test_a_broker_that_tells_nothing_of_itself_is_as_good(
    make: MakeLink, closes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "anlin.mqtt")
    properties = b"\0" * (make is mqtt5_link)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(1_024)
            writer.write(CONNACK[make])
            while said := await reader.read(1_024):
                if said[0] == 0x82:
                    refused = b"$SYS" in said
                    if refused and closes:
                        break
                    answer = said[2:4] + properties + (b"\x80" if refused else b"\x01")
                    writer.write(bytes([0x90, len(answer)]) + answer)
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with running(make, port, filters=FILTERS[:1], notices=(UPTIME,)) as (link, inbox):
                if not closes:
                    await soon(lambda: said(caplog, "does not tell") == 1)
                    link.reconnect("to be refused again")
                wanted = 3 if closes else 2
                await inbox.until(lambda: len(inbox.connections) == wanted)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await inbox.until(lambda: len(inbox.losses) == wanted)
                assert inbox.notices == []
        assert said(caplog, "does not tell") == 1

    asyncio.run(scenario())


@both
def test_a_link_connects_when_it_is_its_turn(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        turn, inbox = asyncio.Event(), Inbox()

        async def wait() -> None:
            inbox.waited()
            await turn.wait()

        link = make(Lane.BULK, settings(broker.port), inbox, backoff=Backoff(0.05), turn=wait)
        running = asyncio.create_task(link.run())
        await inbox.until(lambda: inbox.attempts == 1)
        assert inbox.connections == []
        turn.set()
        await inbox.until(lambda: len(inbox.connections) == 1)
        link.reconnect("to wait again")
        await inbox.until(lambda: len(inbox.connections) == 2)
        assert inbox.attempts == 2
        running.cancel()
        await asyncio.wait({running})

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


# --- being gone -------------------------------------------------------------------------------------------


@both
def test_the_will_speaks_when_the_line_is_cut_and_only_then(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with Proxy(broker.port) as proxy:
            async with running(make, proxy.port, will=WILL) as (link, inbox):
                await link.publish(GATEWAY, b"online", retain=True)
                proxy.cut()
                await until_retained(broker.port, GATEWAY, b"offline")
                await inbox.until(lambda: len(inbox.connections) == 2)
                await link.publish(GATEWAY, b"online", retain=True)
            assert await retained(broker.port, GATEWAY) == b"online"

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_ending_keeps_the_session(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (_, inbox):
            pass
        assert inbox.losses == ["closed by the gateway"]
        await publish(broker.port, *numbered(3))
        async with running(make, broker.port) as (_, inbox):
            await inbox.until(lambda: len(inbox.deliveries) == 3)
            assert inbox.connections[0].session_present
            assert inbox.payloads == payloads(3)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_connecting_anew_brings_again_what_was_not_acknowledged_and_no_will(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port, will=WILL) as (link, inbox):
            await publish(broker.port, *numbered(3))
            await inbox.until(lambda: len(inbox.deliveries) == 3)
            for times in (2, 3, 4, 5):  # never taken for a second gateway
                link.reconnect("the store failed")
                await inbox.until(lambda: len(inbox.deliveries) == 3 * times)  # noqa: B023 - awaited here
            assert inbox.payloads == payloads(3) * 5
            assert await retained(broker.port, GATEWAY) is None

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_broker_that_falls_silent_is_left(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port, keep_alive_s=1) as (_, inbox):
            broker.freeze()
            await inbox.until(lambda: bool(inbox.losses))
            assert inbox.losses == ["the broker does not answer (no PINGRESP)"]
            broker.thaw()
            await inbox.until(lambda: len(inbox.connections) == 2)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_quiet_connection_is_kept_alive(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port, keep_alive_s=2) as (link, inbox):
            # The broker leaves a client that said nothing for 1.5 intervals.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await inbox.until(lambda: bool(inbox.losses))
            await link.publish(GATEWAY, b"online")

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


# --- coming to a connection -------------------------------------------------------------------------------


@both
def test_a_broker_that_comes_later_is_found_and_its_absence_said_once(
    make: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "anlin.mqtt")

    async def scenario(broker: Mosquitto) -> None:
        broker.stop()
        async with running(make, broker.port, connected=False) as (link, inbox):
            with pytest.raises(NotConnected):
                await link.publish(GATEWAY, b"online")
            with pytest.raises(NotConnected):
                await link.read_retained(ALARMS)
            await inbox.until(lambda: inbox.attempts >= 4)
            broker.start()
            await inbox.until(lambda: bool(inbox.connections))
        assert said(caplog, "correct mqtt.host and mqtt.port") == 1
        assert said(caplog, "connected to") == 1

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_wrong_password_says_what_to_correct_and_is_tried_until_it_is(
    make: MakeLink, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(password_line("gateway", "the old one"))

    async def scenario(broker: Mosquitto) -> None:
        async with running(
            make, broker.port, connected=False, username="gateway", password="the new one"
        ) as (_, inbox):
            await inbox.until(lambda: inbox.attempts >= 4)
            assert said(caplog, "correct mqtt.username and mqtt.password_file") == 1
            assert said(caplog, "the new one") == 0
            passwords.write_text(password_line("gateway", "the new one"))
            await asyncio.to_thread(broker.restart)
            await inbox.until(lambda: bool(inbox.connections))

    config = OPEN.replace("allow_anonymous true", f"allow_anonymous false\npassword_file {passwords}")
    with Mosquitto(config) as broker:
        asyncio.run(scenario(broker))


def password_line(name: str, password: str) -> str:
    """As mosquitto_passwd writes it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho-mqtt's, after a refusal
@both
def test_tls_is_spoken_and_a_foreign_authority_named(
    make: MakeLink, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name in ("ours", "foreign"):
        certificate(tmp_path, name)

    async def scenario(broker: Mosquitto) -> None:
        picture = random.Random(2).randbytes(1024 * 1024)
        async with running(make, broker.port, tls=Tls(ca=tmp_path / "ours.pem")) as (link, inbox):
            context = ssl.create_default_context(cafile=tmp_path / "ours.pem")
            async with aiomqtt.Client(HOST, broker.port, tls_context=context) as device:
                await device.publish(TELEMETRY, picture, qos=1)
                await device.publish(TELEMETRY, b"{}", qos=1)
            await inbox.until(lambda: len(inbox.deliveries) == 2)
            assert inbox.payloads == [picture, b"{}"]
            link.acknowledge(1, inbox.ids())
            await link.publish(GATEWAY, b"online")
        for ca in ("foreign", "missing"):
            tls = Tls(ca=tmp_path / f"{ca}.pem")
            async with running(make, broker.port, connected=False, tls=tls) as (link, inbox):
                await inbox.until(lambda: inbox.attempts >= 3)
        assert said(caplog, "check mqtt.tls.ca") == 1
        assert said(caplog, "missing.pem: correct mqtt.tls.ca") == 1

    config = f"{OPEN}\ncertfile {tmp_path}/ours.pem\nkeyfile {tmp_path}/ours.key\n"
    with Mosquitto(config) as broker:
        asyncio.run(scenario(broker))


def certificate(folder: Path, name: str) -> None:
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}"),
            *("-out", str(folder / f"{name}.pem"), "-keyout", str(folder / f"{name}.key")),
        ],
        check=True,
        capture_output=True,
    )


@both
def test_two_gateways_with_the_same_name_do_not_fight_for_ever(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        links = [
            asyncio.create_task(make(Lane.BULK, settings(broker.port), Inbox(), backoff=Backoff(0.1)).run())
            for _ in range(2)
        ]
        async with asyncio.timeout(TIMEOUT_S):
            ended, _ = await asyncio.wait(links, return_when=asyncio.FIRST_COMPLETED)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        error = ended.pop().exception()
        assert isinstance(error, LinkRefused)
        assert "another gateway uses the same node name" in str(error)
        assert "`node:`" in str(error)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_broker_that_restarts_often_is_not_taken_for_a_second_gateway(make: MakeLink) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port) as (_, inbox):
            for connections in range(2, 6):
                seen = inbox.attempts
                broker.kill9()
                await inbox.until(lambda: inbox.attempts >= seen + 2)  # noqa: B023 - awaited here
                broker.start()
                await inbox.until(lambda: len(inbox.connections) == connections)  # noqa: B023 - awaited here

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@both
def test_a_port_that_closes_before_connack_is_waited_for_and_is_no_second_gateway(
    make: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1_024)
            writer.close()

        async with await asyncio.start_server(serve, HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with running(make, port, connected=False) as (_, inbox):
                await inbox.until(lambda: inbox.attempts >= 5)
                assert inbox.connections == []
                assert said(caplog, "another gateway") == 0
                assert said(caplog, "closed the connection") == 1

    asyncio.run(scenario())


@both
def test_a_broker_without_qos_1_is_refused_with_the_remedy(
    make: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(broker: Mosquitto) -> None:
        async with running(make, broker.port, connected=False) as (_, inbox):
            await inbox.until(lambda: inbox.attempts >= 3)
            assert inbox.connections == []
            assert said(caplog, "QoS 1") == 1

    with Mosquitto(OPEN.replace("allow_anonymous", "max_qos 0\nallow_anonymous")) as broker:
        asyncio.run(scenario(broker))


def test_the_broker_hears_how_long_to_keep_the_session_and_how_much_it_may_send() -> None:
    async def scenario() -> None:
        heard = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.InvalidStateError):  # the link comes back
                heard.set_result(await reader.read(1_024))
            writer.close()

        async with await asyncio.start_server(serve, HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with running(mqtt5_link, port, connected=False, will=WILL), asyncio.timeout(TIMEOUT_S):
                packet, _ = mqtt5.read(await heard)
        assert isinstance(packet, mqtt5.ConnectPacket)
        assert (packet.client_id, packet.clean_start) == ("c1-gw-1-bulk", False)
        assert packet.session_expiry_interval >= DAY_S
        assert packet.keep_alive == 30
        assert packet.receive_max == 4_096
        assert packet.max_packet_size == 2 * 1024 * 1024
        assert packet.will is not None
        assert (packet.will.topic, packet.will.payload) == (WILL.topic, WILL.payload)
        assert (packet.will.qos, packet.will.retain) == (mqtt5.QoS.AT_LEAST_ONCE, True)

    asyncio.run(scenario())


# --- a broker out of its mind -----------------------------------------------------------------------------

CONNACK = {mqtt5_link: mqtt5.ConnAckPacket().write(), mqtt311_link: b"\x20\x02\x00\x00"}
GARBAGE: dict[str, bytes] = {
    "zeros": bytes(4_096),
    "a web server": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + b"<br>" * 1_000,
    "a text that is no UTF-8": b"\x30\x05\x00\x02\xff\xfe\x00" + bytes(64),
    "a packet shorter than what it holds": b"\x32\x02\x00\xff" + bytes(64),
    "a packet for brokers": b"\x82\x05\x00\x01\x00\x00\x00" * 10,
}


# The codec reports a text that is not UTF-8 to standard error and to us; ours is the part that counts.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@both
@pytest.mark.parametrize("accepted", [False, True], ids=["at once", "after CONNACK"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_the_connection_and_another_is_made(
    make: MakeLink, garbage: bytes, accepted: bool
) -> None:
    async def scenario() -> None:
        ended = asyncio.Semaphore(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await reader.read(1_024)
                writer.write(CONNACK[make] * accepted + garbage)
                while await reader.read(1_024):
                    pass
            writer.close()
            ended.release()

        async with await asyncio.start_server(serve, HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with running(make, port, connected=False), asyncio.timeout(TIMEOUT_S):
                for _ in range(3):
                    await ended.acquire()

    asyncio.run(scenario())


# --- the parser of MQTT 5 ---------------------------------------------------------------------------------

packets = st.one_of(
    st.builds(
        mqtt5.PublishPacket,
        st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40),
        st.binary(max_size=300),
        qos=st.just(mqtt5.QoS.AT_LEAST_ONCE),
        packet_id=st.integers(1, 65_535),
        retain=st.booleans(),
        duplicate=st.booleans(),
    ),
    st.builds(mqtt5.PubAckPacket, st.integers(1, 65_535)),
    st.builds(mqtt5.PingRespPacket),
    st.just(mqtt5.PublishPacket("large", bytes(200_000))),
)


def parsed(chunks: Sequence[bytes], maximum: int = 2 * 1024 * 1024) -> list[Delivery | mqtt5.Packet]:
    reader = PacketReader(maximum)
    found: list[Delivery | mqtt5.Packet] = []
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            room = reader.room()
            assert len(room) > 0
            size = min(len(room), len(rest))
            room[:size], rest = rest[:size], rest[size:]
            found += reader.take(size)
    return found


def heard(sent: Sequence[mqtt5.Packet]) -> list[Delivery | mqtt5.Packet]:
    """Messages in the place of their packets."""
    return [
        Delivery(each.topic, each.payload, each.packet_id, each.duplicate, each.retain)
        if isinstance(each, mqtt5.PublishPacket)
        else each
        for each in sent
    ]


@given(st.lists(packets, max_size=8), st.data())
def test_however_the_stream_is_cut_the_packets_are_the_same(
    sent: list[mqtt5.Packet], data: st.DataObject
) -> None:
    stream = b"".join(packet.write() for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parsed(chunks) == heard(sent)


def test_a_stream_may_be_cut_at_every_byte() -> None:
    sent: list[mqtt5.Packet] = [
        mqtt5.PublishPacket(TELEMETRY, bytes(200), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7),
        mqtt5.PubAckPacket(7, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED),
        mqtt5.PublishPacket(TELEMETRY, b""),
    ]
    stream = b"".join(packet.write() for packet in sent)
    for cut in range(len(stream) + 1):
        assert parsed([stream[:cut], stream[cut:]]) == heard(sent)
    assert parsed([stream[at : at + 1] for at in range(len(stream))]) == heard(sent)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(garbage: bytes) -> None:
    with suppress(MalformedPacketError):
        parsed([garbage])


def test_a_packet_above_the_agreed_size_is_refused_at_its_first_bytes() -> None:
    packet = mqtt5.PublishPacket(TELEMETRY, bytes(5_000)).write()
    with pytest.raises(MalformedPacketError, match="4,096 were agreed"):
        parsed([packet[:5]], maximum=4_096)
    with pytest.raises(MalformedPacketError, match="4,096 were agreed"):
        parsed([packet], maximum=4_096)


# --- waiting ----------------------------------------------------------------------------------------------


def test_waits_double_up_to_half_a_minute_and_begin_anew_after_success() -> None:
    backoff = Backoff()
    waits = [backoff.next_s() for _ in range(10)]
    assert 1 <= waits[0] <= 1.2
    assert all(earlier < later for earlier, later in pairwise(waits[:6]))
    assert all(25 <= wait <= 30 for wait in waits[5:])
    backoff.reset()
    assert 1 <= backoff.next_s() <= 1.2


# --- the embedded broker ----------------------------------------------------------------------------------


def test_the_embedded_broker_carries_a_demo() -> None:
    async def scenario() -> None:
        async with EmbeddedBroker() as broker, running(mqtt311_link, broker.port) as (link, inbox):
            await publish(broker.port, *numbered(200))
            await inbox.until(lambda: len(inbox.deliveries) == 200)
            link.acknowledge(1, inbox.ids())
            assert inbox.payloads == payloads(200)
            await link.publish("community/c1/alarm/1", b"alarm", retain=True)
            assert await link.read_retained(ALARMS) == {"community/c1/alarm/1": b"alarm"}

    asyncio.run(scenario())


def test_a_taken_port_is_named_by_the_embedded_broker() -> None:
    async def scenario() -> None:
        async with EmbeddedBroker() as first:
            with pytest.raises(EmbeddedBrokerError, match=f"{HOST}:{first.port}.*mqtt.port"):
                async with EmbeddedBroker(first.port):
                    pass

    asyncio.run(scenario())
