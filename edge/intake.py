"""From deliveries to decisions: routing, decoding, duplicates, the engine, the open batch.

This is the hot path. It touches no disk and no socket. A bad message is counted, kept in the quarantine
and acknowledged with its batch; it never raises. So is a good one at which the engine fails (`edge.undecided`).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from zlib import crc32

import msgspec

from devices.decoding import Reason, Rejected, decode
from devices.duplicates import RecentMessages, SessionPackets, name_of
from devices.readings import Channel, Flag, Reading
from devices.registry import Registry
from devices.topics import Lane, Route, Topics, Unroutable
from edge.mqtt.link import Delivery
from edge.store.records import (
    Batch,
    KeptRules,
    OrderResult,
    OrderStatus,
    Outgoing,
    OutgoingKind,
    Quarantined,
)
from edge.throttle import UNMETERED, Meter, Throttle
from edge.undecided import go_on
from rules.alarms import Alarm
from rules.decisions import NOTHING, Decision, Input, time_of
from rules.engine import Engine
from rules.state import State

log = logging.getLogger("anlin.intake")

KEEP_WHOLE = 64 * 1024
KEEP_OF_LARGE = 4 * 1024
"""Bytes of a rejected payload that the quarantine keeps (issue "bad input")."""

QUARANTINE_PER_MINUTE = 60
"""Rows; a babbling device must not wear out the card. What is not kept is still counted."""

UNDECIDED_LOGGED = 1_000
"""One in so many failures of the engine is logged whole; all are counted."""

_RETAINED = Flag.RETAINED
_TELEMETRY = Channel.TELEMETRY
_SAFETY = Lane.SAFETY


SOURCES_MOST = 65_536

Fill = Callable[[State, Iterable[Input]], None]
"""Gives a state what new rules would remember; the inputs are those that are not on disk yet."""


@dataclass(slots=True)
class _Source(Meter):
    """Who speaks on a topic, looked up once: all that one of its messages needs lies here together."""

    route: Route | None
    """None: no topic of ours, or none that we know."""
    seed: int
    flags: int
    buffers: bool


class Intake:
    """Feeds the engine and fills the open batch.

    ``batch`` is replaced by whoever closes it; ``urgent`` says that it should be closed at once.
    """

    def __init__(
        self,
        engine: Engine,
        state: State,
        topics: Topics,
        registry: Registry,
        throttle: Throttle | None = None,
        kept: KeptRules | None = None,
        *,
        own_status: str = "",
    ) -> None:
        self.engine = engine
        self.kept = kept
        """The rules of ``engine`` as the journal keeps them."""
        self.state = state
        self.batch = Batch(seq=0)
        self.urgent = False
        self.counts: Counter[str] = Counter()
        self.undecided = ""
        """The last failure of decoding or of the engine; ``counts["undecided"]`` is how many there were."""
        self.echoed = False
        """The gateway's own status has come back: what waited in the safety session was before it."""
        self.packets = {lane: SessionPackets() for lane in Lane}
        self.recent = RecentMessages()
        self.next_outgoing_id = 1
        self._topics = topics
        self._registry = registry
        self._throttle = throttle or Throttle()
        self._own_status = own_status
        self._sources: dict[str, _Source] = {}
        self._doubt = 0
        self._quarantine_minute = 0
        self._quarantine_left = QUARANTINE_PER_MINUTE

    def receive(self, lane: Lane, deliveries: Sequence[Delivery], now: int) -> list[int]:
        """Take messages that arrived at ``now``; returns the packet identifiers to acknowledge with the batch."""
        to_acknowledge: list[int] = []
        sources, packets = self._sources, self.packets[lane]
        batch, state, step = self.batch, self.state, self.engine.step
        marks, told, safety = batch.packets[lane], list[Reading](), lane is _SAFETY
        self.counts["received"] += len(deliveries)
        for topic, payload, packet_id, dup, retain in deliveries:
            source = sources.get(topic) or self._source(topic)
            mark = crc32(payload, source.seed)
            if packet_id is not None:
                to_acknowledge.append(packet_id)
                if dup and packets.is_repeat(packet_id, mark):
                    self.counts["duplicates"] += 1
                    continue
                marks += packet_id, mark
            route = source.route
            if route is None:
                self._unroutable(topic, payload, now, retained=retain)
                continue
            try:
                flags = source.flags | _RETAINED if retain else source.flags
                reading = decode(route, payload, now, flags, source.buffers)
                name = name_of(reading, payload) if safety else reading.id
            except Exception as failure:  # noqa: BLE001 - bad or a fault of ours: it costs this message alone
                self._leave_out(topic, payload, failure, now)
                continue
            if reading.extra is not None:
                self.counts["unknown_fields"] += len(reading.extra)
            source.left -= 1
            if source.left < 0:
                if (judged := self._admit(source, lane, reading, now)) is None:
                    continue
                reading = judged
            if name is not None and not retain:  # old news must not hide what is said anew
                if self.recent.is_repeat(name, mark, now):
                    self.counts["duplicates"] += 1
                    continue
                batch.recent.append((name, mark, now))
            try:
                decision = step(state, reading, now)
            except Exception as failure:  # noqa: BLE001 - a fault of ours costs this message, not the rest
                if not self._go_on(reading, now, failure, topic, payload):
                    continue
                decision = NOTHING
            told.append(reading)  # only what was judged: what breaks the engine must not break every replay
            if route.channel is not _TELEMETRY:
                self._beside(reading, now)
            if decision is not NOTHING:
                self.follow(decision)
        batch.inputs.heard(told, now)
        batch.now = state.now
        return to_acknowledge

    def _admit(self, meter: Meter, lane: Lane, reading: Reading, now: int) -> Reading | None:
        """What is to be judged now of a device that may have said too much; see `Throttle.admit`."""
        if reading.retained:
            return reading
        judged = self._throttle.admit(meter, lane, reading, now)
        if judged is None:
            self.counts["throttled"] += 1
        return judged

    def _source(self, topic: str) -> "_Source":
        """What a topic stands for; remembered if it is a good one, so that a stranger's topics are not."""
        route = self._topics.route(topic)
        if not isinstance(route, Route):
            return _Source(None, crc32(topic.encode("utf-8", "surrogatepass")), 0, buffers=False)
        device = self._registry.device(route.address)
        flags = (Flag.UNREGISTERED if device is None else 0) | self._doubt
        if len(self._sources) >= SOURCES_MOST:
            self._sources.clear()
        source = _Source(route, route.seed, flags, buffers=device is not None and device.buffers)
        if route.channel is not Channel.TELEMETRY:
            source.left = UNMETERED
        self._sources[topic] = source
        return source

    def _unroutable(self, topic: str, payload: bytes, now: int, *, retained: bool) -> None:
        route = self._topics.route(topic)
        if isinstance(route, Unroutable):
            self._quarantine(topic, payload, Rejected(Reason(route.reason), route.detail), now)
        else:
            self.counts["foreign"] += 1
            self.echoed |= topic == self._own_status and not retained

    def doubt_time(self, flag: int) -> None:
        """The flag that all readings carry from now on: `Flag.PROVISIONAL` while the time is not known, else 0."""
        if flag != self._doubt:
            self._doubt = flag
            self._sources.clear()

    def forget_session(self, lane: Lane) -> None:
        """The broker has begun a new session: packet identifiers of the old one mean nothing any more."""
        self.packets[lane].clear()
        self.batch.packets[lane].clear()
        self.batch.sessions_begun.append(lane)

    def tell(self, given: Input) -> Decision | None:
        """Give the engine an input that is not a message: an order of a person, a fact about the gateway.

        None where the engine failed at it: it was not judged and is not journaled.
        """
        now = time_of(given)
        try:
            decision = self.engine.step(self.state, given, now)
        except Exception as failure:  # noqa: BLE001 - as for a message
            if not self._go_on(given, now, failure, type(given).__name__.lower(), msgspec.json.encode(given)):
                return None
            decision = NOTHING
        self.batch.inputs.append(given)
        self.batch.now = self.state.now
        self.follow(decision)
        return decision

    def succeed(self, engine: Engine, kept: KeptRules, now: int, fill: Fill) -> None:
        """Let ``engine`` judge from ``now`` on; ``fill`` gives the state what new rules would remember.

        Whatever it raises, the state is of no use any more.
        """
        self.tick(now)
        fill(self.state, self.batch.inputs)
        before, self.engine, self.kept = self.engine.rules, engine, kept
        decision = engine.succeed(self.state, before, now)
        self.batch.now = self.state.now
        self.follow(decision)

    def tick(self, now: int) -> None:
        """Take the deadlines up to ``now``."""
        try:
            decision = self.engine.tick(self.state, now)
        except Exception as failure:  # noqa: BLE001 - a fault of ours costs this deadline, not the rest
            self._go_on(None, now, failure)
            return
        if decision is not NOTHING:
            self.batch.now = self.state.now
            self.follow(decision)

    def _go_on(
        self, given: Input | None, now: int, failure: Exception, topic: str = "", payload: bytes = b""
    ) -> bool:
        """After the engine has failed; whether ``given`` was judged all the same."""
        outcome = go_on(self.engine, self.state, given, now, failure)
        self.batch.now = self.state.now
        for decision in outcome.decisions:
            self.follow(decision)
        for each in outcome.deadlines:
            self._count_failure(each)
        if outcome.failure is not None:
            self._leave_out(topic, payload, outcome.failure, now)
        return outcome.failure is None

    def _leave_out(self, topic: str, payload: bytes, failure: Exception, now: int) -> None:
        if isinstance(failure, Rejected):
            self._quarantine(topic, payload, failure, now)
            return
        detail = f"{type(failure).__name__}: {failure}"
        self._quarantine(topic, payload, Rejected(Reason.UNDECIDED, detail), now)
        self._count_failure(failure)

    def _count_failure(self, failure: Exception) -> None:
        if not self.counts["undecided"] % UNDECIDED_LOGGED:
            log.error("the gateway failed; what it failed at is left out", exc_info=failure)
        self.counts["undecided"] += 1
        self.undecided = f"{type(failure).__name__}: {failure}"[:200]

    def follow(self, decision: Decision) -> None:
        """Put what must follow into the open batch."""
        if decision == NOTHING:
            return
        self.urgent = True
        batch, topics = self.batch, self._topics
        for change in decision.changes:
            alarm = change.alarm
            batch.changes.append(change)
            topic = topics.alarm(alarm.id)
            self._send(OutgoingKind.ALARM, alarm.id, topic, alarm.wire())
            if not alarm.on_board:
                self._send(OutgoingKind.ALARM, alarm.id, topic, b"")
        for order in decision.orders:
            batch.orders.append(order)
            kind, device = order.address.split("/")[1:]
            self._send(
                OutgoingKind.ORDER,
                order.id,
                topics.command(kind, device),
                order.wire(),
                retain=False,
                expires_at=order.expires_at,
            )
        for withheld in decision.withheld:
            self.counts["orders_withheld"] += 1
            log.warning(
                "order withheld",
                extra={"command": withheld.command, "device": withheld.address, "reason": withheld.reason},
            )

    def publication(self, alarm: Alarm) -> Outgoing:
        """A publication of an alarm as it stands, with a number of its own."""
        topic, number = self._topics.alarm(alarm.id), self.next_outgoing_id
        self.next_outgoing_id += 1
        return Outgoing(number, OutgoingKind.ALARM, alarm.id, topic, alarm.wire(), retain=True)

    def _send(
        self,
        kind: OutgoingKind,
        subject: str,
        topic: str,
        payload: bytes,
        *,
        retain: bool = True,
        expires_at: int | None = None,
    ) -> None:
        self.batch.outgoing.append(
            Outgoing(self.next_outgoing_id, kind, subject, topic, payload, retain, expires_at)
        )
        self.next_outgoing_id += 1

    def _beside(self, reading: Reading, now: int) -> None:
        """What an event or a result means to others than the engine."""
        if reading.channel is Channel.EVENT:
            self.urgent = True
        elif reading.channel is Channel.RESULT:
            self._answered(reading.values, now)

    def _answered(self, values: dict[str, bool | int | float | str], now: int) -> None:
        detail = values.get("detail")
        self.batch.order_results.append(
            OrderResult(
                str(values["command_id"]),
                OrderStatus(str(values["status"])),
                str(detail)[:200] if detail is not None else None,
                now,
            )
        )

    def _quarantine(self, topic: str, payload: bytes, rejected: Rejected, now: int) -> None:
        self.counts["rejected"] += 1
        self.counts[f"rejected.{rejected.reason}"] += 1
        minute = now // 60_000
        if minute != self._quarantine_minute:
            self._quarantine_minute, self._quarantine_left = minute, QUARANTINE_PER_MINUTE
        if not self._quarantine_left:
            return
        self._quarantine_left -= 1
        size = len(payload)
        kept = payload if size <= KEEP_WHOLE else payload[:KEEP_OF_LARGE]
        self.batch.quarantined.append(
            Quarantined(
                now,
                topic[:512],
                rejected.reason,
                rejected.detail[:200],
                kept,
                size,
                sha256(payload).hexdigest(),
            )
        )
