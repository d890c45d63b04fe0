"""The gateway as virtual time knows it: decoder, duplicates, engine and state, without broker, store and processes.

It takes messages as the real one does (edge.intake): routed, decoded, known repeats dropped, judged. It can stop and
start, be deaf and hear again, with the inputs by which the real one tells its engine of it (edge.hearing). Its time is
given to it; what must follow goes to ``follow``.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from typing import NamedTuple

from devices.decoding import Rejected, decode
from devices.duplicates import RecentMessages, SessionPackets, fingerprint, name_of
from devices.readings import Address, Channel, Flag, Reading, Scalar, address_of
from devices.registry import Registry
from devices.topics import Route, Topics
from rules.awaited import changed
from rules.decisions import CatchingUp, Decision, Input, Listening, time_of
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.places import Neighbourhood
from rules.state import State, freeze, thaw
from simulators.casting import SITE

NODE = "gw-1"
PREFIX = "community"
IN_FLIGHT = 20
"""Messages that a broker delivers again when a session comes back before they were acknowledged."""
PACKET_IDS = 65_535

CHANNELS = {
    Channel.TELEMETRY: "telemetry",
    Channel.EVENT: "event",
    Channel.STATUS: "status",
    Channel.RESULT: "command/result",
}


class Delivery(NamedTuple):
    """A message that the broker hands over."""

    address: Address
    channel: Channel
    payload: bytes


class VirtualGateway:
    """Hours of rules are those of ``zone``. ``now_ms`` gives the time; ``follow`` takes what must follow."""

    def __init__(
        self,
        rules: RuleSet,
        registry: Registry,
        zone: tzinfo,
        now_ms: Callable[[], int],
        follow: Callable[[Decision], None],
    ) -> None:
        places = {address: device.place for address, device in registry.devices.items()}
        nowhere: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.up = True
        self._engine = Engine(
            replace(rules, calendar=replace(rules.calendar, zone=zone)),
            site=SITE,
            node=NODE,
            place_of=lambda address: places.get(address, nowhere),
            around=Neighbourhood(registry.devices.values()),
        )
        self.state: State = self._engine.new_state()
        self._now_ms = now_ms
        self._follow = follow
        self._registered = tuple(registry.mounted)
        self._buffers = {address for address, device in registry.devices.items() if device.buffers}
        self._topics = Topics(PREFIX, SITE)
        self._recent = RecentMessages()
        self._packets = SessionPackets()
        self._packet_id = 0
        self._last: deque[tuple[Delivery, int]] = deque(maxlen=IN_FLIGHT)
        self._waiting: list[Delivery] = []
        """At the broker, while this is down."""
        self._header = b""
        self._snapshot: dict[Address, bytes] = {}
        self._feelings: dict[str, bool] = {}

    @property
    def due_ms(self) -> int | None:
        """When a deadline of its engine is due."""
        return self._engine.next_deadline(self.state) if self.up else None

    def tick(self) -> None:
        """Take the deadlines up to now."""
        if self.up:
            self._follow(self._engine.tick(self.state, self._now_ms()))

    def tell(self, given: Input) -> None:
        """Tell the engine what is no message."""
        self._follow(self._engine.step(self.state, given, time_of(given)))

    def await_devices(self, at_ms: int) -> None:
        """From now on the devices of the registry are missed, also those that never speak."""
        awaited = changed(self.state, self._registered, at_ms)
        if awaited is not None:
            self.tell(awaited)

    # --- messages -----------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """A message has reached the broker: it is taken, or waits there until the gateway is up."""
        if self.up:
            self._receive(delivery)
        else:
            self._waiting.append(delivery)

    def _receive(self, delivery: Delivery, packet_id: int | None = None) -> None:
        """Take a message; with a packet identifier it comes again."""
        address, channel, payload = delivery
        now, counts = self._now_ms(), self.counts
        topic = f"{PREFIX}/{address}/{CHANNELS[channel]}"
        mark = fingerprint(topic, payload)
        counts["received"] += 1
        if packet_id is not None and self._packets.is_repeat(packet_id, mark):
            counts["duplicates"] += 1
            return
        self._packet_id = self._packet_id % PACKET_IDS + 1
        self._packets.committed((self._packet_id, mark))
        self._last.append((delivery, self._packet_id))
        route = self._topics.route(topic)
        if not isinstance(route, Route):
            counts["rejected"] += 1
            return
        try:
            reading = decode(route, payload, now, buffers=address in self._buffers)
        except Rejected:
            counts["rejected"] += 1
            return
        safety = route.kind.safety or route.channel is not Channel.TELEMETRY
        name = name_of(reading, payload) if safety else reading.id
        if name is not None and self._recent.is_repeat(name, mark, now):
            counts["duplicates"] += 1
            return
        if reading.flags & Flag.CLOCK_DOUBTED:
            counts["clock doubted"] += 1
        self._follow(self._engine.step(self.state, reading, now))

    # --- away and back ------------------------------------------------------------------------------------

    def go_deaf(self, at_ms: int | None = None) -> None:
        """It hears nothing from now on, and does not know what it will have missed."""
        if self.up:
            moment = self._now_ms() if at_ms is None else at_ms
            self.tell(Listening(on=False, at=moment))
            self.tell(CatchingUp(on=True, at=moment))

    def hear_again(self, *, forgotten: bool = False) -> None:
        """What was in flight comes again (unless the broker has forgotten it), then what waited, then what is new."""
        if forgotten:
            self._last.clear()
            self._waiting = []
            self._packets.clear()
        if not self.up:
            return
        again, waiting = list(self._last), self._waiting
        self._waiting = []
        for delivery, packet_id in again:
            self._receive(delivery, packet_id)
        self.tell(Listening(on=True, at=self._now_ms()))
        for delivery in waiting:
            self._receive(delivery)

    def caught_up(self) -> None:
        """It has read its backlog."""
        if self.up and self.state.catching_up:
            self.tell(CatchingUp(on=False, at=self._now_ms()))

    def stop(self) -> None:
        """It ends; what it knows goes into its snapshot."""
        self._header, devices = freeze(self.state)
        self._snapshot.update(devices)
        self.up = False

    def start(self) -> None:
        """It begins with its snapshot, deaf."""
        self.up = True
        self.state = thaw(self._header, list(self._snapshot.items()))
        self._engine.derive_deadlines(self.state)
        self.go_deaf(self.state.now)

    def find(self, reason: str, *, so: bool) -> None:
        """Something is wrong around it, or over; it tells its engine at its next `look`."""
        self._feelings[reason] = so

    def look(self) -> None:
        """Tell the engine how it is (edge.vitals)."""
        if self.up:
            values: dict[str, Scalar] = {**self._feelings}
            now = self._now_ms()
            self.tell(Reading(Channel.TELEMETRY, address_of(SITE, "gateway", NODE), values, now, now))
