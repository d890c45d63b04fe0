"""MQTT 3.1.1 over paho-mqtt, for brokers that do not speak MQTT 5.

paho runs in a thread of its own, one client a connection; its callbacks reach the event loop in batches.
When the loop is behind, or reading is paused, the thread leaves what comes in the socket and only writes and
pings. The protocol has no maximum packet size: the broker's own limit is what keeps packets small.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.topics import Lane
from edge.mqtt.backoff import Backoff
from edge.mqtt.connection import Connection, Deliver, Loss
from edge.mqtt.link import Delivery, Inbox, LinkSettings, NotConnected, PublishRefusedError
from edge.mqtt.rejections import CONNECT_TIMEOUT_S, refusal, tls_context
from edge.mqtt.session import Session, Turn

_WAITING_MESSAGES = 512
_WAITING_BYTES = 512 * 1024
"""What may wait for the event loop before the thread stops reading; one packet may come on top."""
_PAUSED_S = 0.05  # how often a thread that does not read looks whether there is something to write


def mqtt311_link(
    lane: Lane,
    settings: LinkSettings,
    inbox: Inbox,
    *,
    backoff: Backoff | None = None,
    turn: Turn | None = None,
) -> Session:
    """A `Link` that speaks MQTT 3.1.1."""
    return Session(lane, settings, inbox, connect=_connect, backoff=backoff, turn=turn)


async def _connect(settings: LinkSettings, number: int, deliver: Deliver) -> Connection:
    connection = _Connection311(settings, number, deliver)
    connection.start()
    return connection


class _Connection311(Connection):
    def __init__(self, settings: LinkSettings, number: int, deliver: Deliver) -> None:
        super().__init__(number)
        self._settings = settings
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._paused = False
        self._reading = threading.Event()
        self._reading.set()
        self._waiting_lock = threading.Lock()
        self._waiting: list[Delivery | Callable[[], None]] = []
        self._waiting_bytes = 0
        self._client = self._new_client()

    def _new_client(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        if settings.will is not None:
            client.will_set(settings.will.topic, settings.will.payload, qos=1, retain=settings.will.retain)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        # With it only paho's thread writes; without it the event loop would write to the socket itself.
        client.on_socket_register_write = lambda *_: None
        return client

    def start(self) -> None:
        name = f"mqtt-{self._settings.client_id}"
        # A daemon, because nothing can interrupt it while it looks up a host or connects.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    # --- paho's thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        settings, client = self._settings, self._client
        reason = "the connection ended"
        try:
            client.connect(settings.host, settings.port, settings.keep_alive_s)
            while client.socket() is not None and not (self._closing and not self.accepted.done()):
                if self._reading.is_set():
                    client.loop(timeout=1.0)
                elif not self._reading.wait(_PAUSED_S):
                    client.loop_write()
                    client.loop_misc()
        except OSError as error:
            # Without its traceback, which would keep the socket that paho forgets after a failed handshake.
            self._post(partial(self._reject, error.with_traceback(None)))
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the top of the thread; the session logs it, and the lost session is counted
            reason = f"the broker sent what paho-mqtt cannot read ({type(error).__name__}: {error})"
        finally:
            self._shut()
            self._post(partial(self._ended, Loss(reason)))

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        flags: ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._post(partial(self._reject, refusal(code.value, str(code), self._settings)))
        else:
            self._post(partial(self._accept, session_present=flags.session_present))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"  # matches nothing, and is acknowledged like the others
        packet_id = message.mid if message.qos else None
        self._post(Delivery(topic, bytes(message.payload), packet_id, message.dup, message.retain))

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._post(partial(self._acknowledged, mid, code.value, str(code)))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        mid: int,
        codes: Sequence[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._post(partial(self._granted, mid, [code.value for code in codes]))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        match code.getName():
            case _ if self._closing:
                loss = Loss("closed by the gateway")
            case "Keep alive timeout":
                loss = Loss("the broker does not answer (no PINGRESP)")
            case "Protocol error":
                loss = Loss("the broker sent what is not MQTT 3.1.1")
            case _:
                loss = Loss("the broker closed the connection", contested=True)
        self._post(partial(self._ended, loss))

    def _post(self, item: Delivery | Callable[[], None]) -> None:
        with self._waiting_lock:
            self._waiting.append(item)
            first = len(self._waiting) == 1
            if type(item) is Delivery:
                self._waiting_bytes += len(item.payload)
            if len(self._waiting) >= _WAITING_MESSAGES or self._waiting_bytes >= _WAITING_BYTES:
                self._reading.clear()
        if first:
            with suppress(RuntimeError):  # the event loop has ended before this thread
                self._loop.call_soon_threadsafe(self._drain)

    # --- the event loop -----------------------------------------------------------------------------------

    def _drain(self) -> None:
        with self._waiting_lock:
            waiting, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            if not self._paused:
                self._reading.set()
        deliveries: list[Delivery] = []
        for item in waiting:
            if type(item) is Delivery:
                deliveries.append(item)
            elif callable(item):
                self._hand_over(deliveries)
                deliveries = []
                item()
        self._hand_over(deliveries)

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        if deliveries and not self._closing and not self.lost.done():
            self._deliver(self, deliveries)

    def _accept(self, *, session_present: bool) -> None:
        self.session_present = session_present
        if not self.accepted.done():
            self.accepted.set_result(None)

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        if not self._gone():
            for packet_id in packet_ids:
                self._client.ack(packet_id, 1)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expires_in_s: int | None,  # noqa: ARG002 - the protocol knows no expiry
    ) -> asyncio.Future[None]:
        self._need()
        try:
            info = self._client.publish(topic, payload, qos=1, retain=retain)
        except ValueError as error:
            raise PublishRefusedError(str(error)) from error
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotConnected(f"not published ({info.rc.name})")
        published = self._publishing[info.mid] = self._loop.create_future()
        return published

    def subscribe(self, filters: Sequence[str], qos: int) -> asyncio.Future[Sequence[int]]:
        self._need()
        return self._answer(*self._client.subscribe([(each, qos) for each in filters]))

    def unsubscribe(self, topic_filter: str) -> asyncio.Future[Sequence[int]]:
        self._need()
        return self._answer(*self._client.unsubscribe(topic_filter))

    def pause_reading(self) -> None:
        with self._waiting_lock:
            self._paused = True
            self._reading.clear()

    def resume_reading(self) -> None:
        with self._waiting_lock:
            self._paused = False
            self._reading.set()

    def disconnect(self) -> None:
        self._closing = True
        self._client.disconnect()

    def abort(self) -> None:
        self._closing = True
        self._shut()

    def _shut(self) -> None:
        """End the connection from whichever thread; the other one finds it closed."""
        connected = self._client.socket()
        if isinstance(connected, socket.socket):
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _gone(self) -> bool:
        return self._closing or self.lost.done()

    def _need(self) -> None:
        if self._gone():
            raise NotConnected(self.lost.result().reason if self.lost.done() else "closed by the gateway")

    def _answer(self, result: MQTTErrorCode, mid: int | None) -> asyncio.Future[Sequence[int]]:
        if result is not MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise NotConnected(f"not sent ({result.name})")
        answer = self._subscribing[mid] = self._loop.create_future()
        return answer
