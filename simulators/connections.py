"""Connections to the broker: one with a will for each device, or a few that many devices share.

MQTT knows one will for a connection, so a device behind a shared one cannot be missed: whoever pools says so.
What a device says leaves at QoS 1, in its order, one message at a time as a small device does it. Telemetry
of a device that is not connected is lost, as it is in life; events, results and states wait, up to a limit.
"""

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import aiomqtt

from devices.readings import Address
from simulators.device import OUTBOX_LIMIT
from simulators.fleet import Member

KEEP_ALIVE_S = 30
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 10.0
FAREWELL_S = 2.0
"""How long a device that is switched off may take to say so."""
SUBSCRIBED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how its topics begin."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "community"

    def topic(self, address: Address, channel: str) -> str:
        """A device's topic (contract, section 1)."""
        return f"{self.prefix}/{address}/{channel}"

    def client(self, identifier: str, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
        """A client that is not connected yet. MQTT 3.1.1, which every broker speaks."""
        return aiomqtt.Client(
            self.host,
            self.port,
            identifier=identifier,
            username=self.username,
            password=self.password,
            will=will,
            keepalive=KEEP_ALIVE_S,
            protocol=aiomqtt.ProtocolVersion.V311,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )


class BrokerUnreachableError(ConnectionError):
    """There is no broker, or it refuses us; the text names it and says what to do."""


async def probe(broker: Broker) -> None:
    """See whether the broker lets us in. Raises `BrokerUnreachableError`."""
    where = f"{broker.host}:{broker.port}"
    try:
        async with broker.client(f"anlin-simulators-probe-{random.randrange(1 << 32):08x}"):
            return
    except aiomqtt.exceptions.MqttConnectError as error:
        raise BrokerUnreachableError(
            f"the MQTT broker at {where} refuses us ({error}); check --username and --password-file"
        ) from error
    except aiomqtt.MqttError as error:
        raise BrokerUnreachableError(
            f"no MQTT broker answers at {where} ({error}); start one, e.g. `mosquitto -p {broker.port}`,"
            " or name another with --broker HOST:PORT"
        ) from error


def cancellations() -> int:
    """How often this task was told to end. A `TaskGroup` of Python 3.11 leaves its own count behind."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def heed_cancellation(before: int = 0) -> None:
    """Give a cancellation its due that was swallowed on the way; ``before`` is how many are old news.

    Up to Python 3.11 `asyncio.wait_for`, under every call of aiomqtt, loses one that comes together with the
    broker's answer; who waits for the task would wait for ever.
    """
    if cancellations() > before:
        raise asyncio.CancelledError


class Parcel(NamedTuple):
    """A message on its way out."""

    topic: str
    payload: bytes
    retain: bool = False
    lasting: bool = True
    """Waits for a connection; telemetry does not."""


class Listener(Protocol):
    """Who owns the connections. Called in the event loop; must return at once, must not raise."""

    def connected(self, members: Sequence[Member]) -> None:
        """These devices are connected, their states are about to be published."""

    def disconnected(self, members: Sequence[Member], reason: str) -> None:
        """These devices have no connection any more; it will be tried again."""

    def commanded(self, member: Member, payload: bytes) -> None:
        """A command came for a device."""

    def published(self, parcel: Parcel) -> None:
        """The broker has acknowledged a message."""


class Connection:
    """One client of the broker, for one device (with its will) or for several (without)."""

    def __init__(
        self, members: Sequence[Member], broker: Broker, identifier: str, listener: Listener
    ) -> None:
        self.dropped = 0
        """Messages that were lost because the broker was away or slow."""
        self._members = members
        self._broker = broker
        self._identifier = identifier
        self._listener = listener
        self._orders = {broker.topic(member.address, "command"): member for member in members}
        self._outbox: deque[Parcel] = deque()
        self._limit = OUTBOX_LIMIT * len(members)
        self._filled = asyncio.Event()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._client: aiomqtt.Client | None = None

    @property
    def pooled(self) -> bool:
        """Whether several devices share it."""
        return len(self._members) > 1

    def send(self, parcel: Parcel) -> None:
        """Put a message into the outbox; drops the oldest of a full one."""
        if self._client is None and not parcel.lasting:
            self.dropped += 1
            return
        if len(self._outbox) >= self._limit:
            self._outbox.popleft()
            self.dropped += 1
        self._outbox.append(parcel)
        self._filled.set()

    def break_off(self, member: Member) -> None:
        """The connection breaks without a farewell, until `resume`: the broker publishes the will."""
        if self.pooled:
            self.send(self._status(member, "offline"))
            return
        self._allowed.clear()
        if self._client is not None:
            # aiomqtt can only say goodbye; a device whose power fails does not.
            broken = self._client._client.socket()  # noqa: SLF001 - it offers no other way to its socket
            if isinstance(broken, socket.socket):
                with contextlib.suppress(OSError):
                    broken.shutdown(socket.SHUT_RDWR)

    def resume(self, member: Member) -> None:
        """The device may connect again."""
        if self.pooled:
            self.send(self._status(member, "online"))
            self._listener.connected([member])
        else:
            self._allowed.set()

    async def run(self) -> None:
        """Stay connected until cancelled; then say ``offline`` and go."""
        retry_s = FIRST_RETRY_S
        will = None if self.pooled else self._will()
        while True:
            await self._allowed.wait()
            reason = "the broker closed the connection"
            was_up, cancelled = False, cancellations()
            try:
                async with self._broker.client(self._identifier, will) as client:
                    self._client, was_up, retry_s = client, True, FIRST_RETRY_S
                    await self._serve(client, cancelled)
            except* (aiomqtt.MqttError, OSError) as errors:
                reason = str(errors.exceptions[0])
            finally:
                self._client = None
            self._forget_telemetry()
            if was_up:
                self._listener.disconnected(self._members, reason)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1))
            retry_s = min(LAST_RETRY_S, 2 * retry_s)

    def _will(self) -> aiomqtt.Will:
        status = self._status(self._members[0], "offline")
        return aiomqtt.Will(status.topic, status.payload, qos=1, retain=True)

    def _status(self, member: Member, state: str) -> Parcel:
        return Parcel(self._broker.topic(member.address, "status"), state.encode(), retain=True)

    def _forget_telemetry(self) -> None:
        kept = [parcel for parcel in self._outbox if parcel.lasting]
        self.dropped += len(self._outbox) - len(kept)
        self._outbox = deque(kept)

    async def _serve(self, client: aiomqtt.Client, cancelled: int) -> None:
        present = [member for member in self._members if not member.device.offline]
        try:
            topics = [(topic, 1) for topic in self._orders]
            for start in range(0, len(topics), SUBSCRIBED_AT_ONCE):
                await client.subscribe(topics[start : start + SUBSCRIBED_AT_ONCE])
                heed_cancellation(cancelled)
            for member in present:
                await self._publish(client, self._status(member, "online"))
                heed_cancellation(cancelled)
            self._listener.connected(present)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._empty_outbox(client), name=f"{self._identifier}-out")
                tasks.create_task(self._take_orders(client), name=f"{self._identifier}-in")
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    for member in self._members:
                        await self._publish(client, self._status(member, "offline"))
            raise

    async def _empty_outbox(self, client: aiomqtt.Client) -> None:
        while True:
            await self._filled.wait()
            while self._outbox:
                parcel = self._outbox.popleft()
                try:
                    await self._publish(client, parcel)
                except aiomqtt.MqttError:
                    self._outbox.appendleft(parcel)
                    raise
                heed_cancellation()
            self._filled.clear()

    async def _publish(self, client: aiomqtt.Client, parcel: Parcel) -> None:
        await client.publish(parcel.topic, parcel.payload, qos=1, retain=parcel.retain)
        self._listener.published(parcel)

    async def _take_orders(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            member = self._orders.get(message.topic.value)
            if member is not None:
                self._listener.commanded(member, message.payload)
