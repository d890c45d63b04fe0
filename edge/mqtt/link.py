"""The connection to the broker, as the node sees it.

Two implementations keep this promise, `edge.mqtt.five` (MQTT 5, what a site runs) and `edge.mqtt.three`
(MQTT 3.1.1 over paho-mqtt); the same contract tests run against both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from devices.topics import Lane

SESSION_EXPIRY_S = 7 * 86_400
"""How long the broker keeps what waits for a gateway that is away: over a long weekend."""


class Delivery(NamedTuple):
    """One message from the broker, not acknowledged yet. ``packet_id`` is None at QoS 0."""

    topic: str
    payload: bytes
    packet_id: int | None
    dup: bool
    retain: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is up: subscriptions are granted, or the session that the broker kept sends already."""

    lane: Lane
    connection: int
    """Rises with each connection; acknowledgements carry it."""
    session_present: bool
    receive_maximum: int
    """The smaller of what we offered and what the broker allows (20 is assumed under MQTT 3.1.1)."""
    broker_maximum: int | None = None
    """What the broker itself says that it allows; None under MQTT 3.1.1, which has no word for it."""


class Inbox(Protocol):
    """Who takes what the link brings. Called in the event loop; must return at once, must not raise."""

    def connected(self, connected: Connected) -> None:
        """Called before the first delivery of a connection."""

    def received(self, lane: Lane, connection: int, deliveries: Sequence[Delivery]) -> None:
        """Messages in the order of their arrival. Each is ours to acknowledge once it is on disk."""

    def noticed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """The broker says something of itself, under one of `LinkSettings.notices`; nothing to acknowledge."""

    def disconnected(self, lane: Lane, connection: int, reason: str) -> None:
        """The connection is gone; what it delivered and we have not acknowledged will come again."""


class Link(Protocol):
    """One session with the broker, for one lane. ``run`` keeps it connected until cancelled."""

    async def run(self) -> None:
        """Connect, subscribe, stay; reconnect with jittered backoff (1 s to 30 s) for ever.

        Raises `LinkRefused` where waiting does not help: a second gateway with the same name.
        On cancellation disconnects cleanly (session kept, no will).
        """

    def acknowledge(self, connection: int, packet_ids: Sequence[int]) -> None:
        """PUBACK in this order. Those of a connection that is gone are dropped silently."""

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged. Raises `NotConnected` if the link is
        down or goes down before that: the message may or may not have gone out, send it again. Raises
        `PublishRefusedError` where that would not help. After ``expires_in_s`` the broker gives it to nobody
        any more (MQTT 5; 3.1.1 has no such thing, so whoever gets it must look at the time in it).
        """  # noqa: D205

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        """What the broker holds retained under a filter: subscribes at QoS 0, collects until 0.5 s of quiet
        (at most 10 s), unsubscribes. Raises `NotConnected`, or another `LinkError` where
        this is not permitted. The filter must not overlap the link's own.
        """  # noqa: D205

    def pause_reading(self) -> None:
        """Take nothing more from the network until `resume_reading`, also over a reconnect; what is on its
        way still comes (less than 1 MiB and one packet). Without it messages at QoS 0 have no bound.
        """  # noqa: D205

    def reconnect(self, reason: str) -> None:
        """Drop the connection and begin another: the broker brings again what was not acknowledged."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""


class LinkError(Exception):
    """Of this package."""


class NotConnected(LinkError):
    """There is no connection now; try again after the next `Connected`."""


class PublishRefusedError(LinkError):
    """The broker will not take this message (too large, not permitted); the same again will not help."""


class LinkRefused(LinkError):
    """The broker will not have us and waiting will not help; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us when we are gone."""

    topic: str
    payload: bytes
    retain: bool = True
    delay_s: int = 0
    """How long it waits for us to come back (MQTT 5). A broker that ends in good order publishes it before."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the certificate authority and, for mutual TLS, of the client."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How to reach the broker and as whom."""

    host: str
    port: int
    client_id: str
    """Fixed: ``{site}-{node}-{lane}``; the broker keeps the session under it."""
    filters: Sequence[str]
    notices: Sequence[str] = ()
    """Filters below ``$SYS``, read at QoS 0 for `Inbox.noticed`; a broker that refuses them is as good."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    will: Will | None = None
    farewell: Callable[[], Will] | None = None
    """Instead of ``will``: one for each connection, which stays when we go in good order (MQTT 5; 3.1.1 has no
    such thing and never asks for it)."""
    keep_alive_s: int = 30
    session_expiry_s: int = SESSION_EXPIRY_S
    receive_maximum: int = 4_096
    maximum_packet_size: int = 2 * 1024 * 1024
