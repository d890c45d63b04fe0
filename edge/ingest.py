"""What the links bring: sessions that come and go, messages, notices (`edge.mqtt.link.Inbox`).

Nothing is acknowledged here, and nothing is taken while the engine is about to be rebuilt or the node ends: it comes
again. A lane of which more is held than the disk takes is not read until the disk has caught up. The other one is:
an emergency press does not wait for a backlog of telemetry.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from devices.topics import Lane
from edge.babblers import Babblers
from edge.broker.broker_watch import BrokerWatch, Findings
from edge.broker.presence import Presence
from edge.clock import Clock
from edge.committing.commits import MOST_MESSAGES, Commits
from edge.hearing import Hearing
from edge.intake import Intake
from edge.mqtt.link import Connected, Delivery, Link
from edge.outbox import Outbox
from edge.throttle import Throttle
from edge.waking import Waking

log = logging.getLogger("anlin.node")

HOLD_MOST = 4 * MOST_MESSAGES
"""Uncommitted messages of a lane; above it this lane is not read until the disk has caught up."""


class Taking(Protocol):
    """For whom it is taken: the node. Its intake and commits change with a rebuild."""

    deaf: bool
    stopping: asyncio.Event
    intake: Intake
    commits: Commits
    links: dict[Lane, Link]
    lanes_up: set[Lane]
    outbox: Outbox
    presence: Presence

    def find(self, findings: Findings) -> None:
        """Put on record, and say, what the broker did not keep."""


class Ingest:
    """The `Inbox` of both links, for the life of a node."""

    def __init__(
        self,
        node: Taking,
        clock: Clock,
        hearing: Hearing,
        waking: Waking,
        throttle: Throttle,
        babblers: Babblers,
        broker_watch: BrokerWatch,
    ) -> None:
        self.online = asyncio.Event()
        """The safety session is up."""
        self.safety_read = asyncio.Event()
        """Nothing waits in the safety session any more that was there when it came up (`edge.broker.safety_first`)."""
        self.disconnects: Counter[Lane] = Counter()
        """How often each session was lost; why is in the log."""
        self._node = node
        self._clock = clock
        self._hearing = hearing
        self._backlog = hearing.backlog
        self._waking = waking
        self._throttle = throttle
        self._babblers = babblers
        self._broker_watch = broker_watch
        self._receive_maximum: dict[Lane, int] = {}
        self._paused: set[Lane] = set()
        self._new_sessions: set[Lane] = set()
        """Begun while the store failed; told after the rebuild."""
        self._heard_at = dict.fromkeys(Lane, 0)
        """When each session last brought something, or came up (Unix ms)."""

    def connected(self, connected: Connected) -> None:
        """A session is up; see `Inbox`."""
        node, lane, now = self._node, connected.lane, self._clock.now_ms()
        node.lanes_up.add(lane)
        self._heard_at[lane] = now
        self._receive_maximum[lane] = connected.receive_maximum
        node.commits.limit = max(1, min(MOST_MESSAGES, min(self._receive_maximum.values()) // 2))
        log.info("connected", extra={"lane": lane.value, "session_present": connected.session_present})
        if not connected.session_present:
            if node.deaf:
                self._new_sessions.add(lane)
            else:
                node.commits.forget_session(lane)
        self._throttle.connected(now)
        node.find(self._broker_watch.connected(connected, now))
        if lane is Lane.SAFETY:
            node.outbox.connected()
            node.intake.echoed = False
            self.safety_read.clear()
            self.online.set()
            node.presence.greet()
        if connected.session_present:
            self._hearing.catch_up()
        if node.lanes_up == set(Lane):
            self._hearing.listen(on=True)
        self._backlog.connected(lane, kept=connected.session_present)

    def received(self, lane: Lane, connection: int, deliveries: Sequence[Delivery]) -> None:
        """Take messages; see `Inbox`."""
        node = self._node
        if node.deaf or node.stopping.is_set():
            return  # not acknowledged: they come again after the rebuild, or at the next start
        intake, commits = node.intake, node.commits
        now = self._heard_at[lane] = self._hearing.now_awake()
        packet_ids = intake.receive(lane, deliveries, now)
        if intake.echoed:
            self.safety_read.set()
        commits.received(lane, connection, packet_ids, len(deliveries))
        self._backlog.heard(intake.state.waited_at)
        self._waking.arm()
        held = commits.held(lane)
        if held >= commits.limit:
            self._throttle.full(now)
            if held > HOLD_MOST and lane not in self._paused:
                self._paused.add(lane)
                node.links[lane].pause_reading()
        self._babblers.watch()

    def noticed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """See `Inbox`."""
        self._node.find(self._broker_watch.noticed(topic, payload, self._clock.now_ms(), retained=retained))

    def disconnected(self, lane: Lane, _connection: int, reason: str) -> None:
        """See `Inbox`."""
        node = self._node
        node.lanes_up.discard(lane)
        if node.stopping.is_set():
            return
        self.disconnects[lane] += 1
        log.warning("lost the broker", extra={"lane": lane.value, "reason": reason})
        if lane is Lane.SAFETY:
            node.outbox.disconnected()
            self.online.clear()
            self.safety_read.set()
        node.commits.interrupted(lane)
        node.find(self._broker_watch.disconnected(lane, self._heard_at[lane]))
        self._hearing.listen(on=False)
        self._hearing.catch_up()
        self._backlog.disconnected(lane)

    def caught_up(self) -> None:
        """The disk has taken something, or nothing waits for it: read the lanes again of which little is held."""
        for lane in [lane for lane in self._paused if self._node.commits.held(lane) <= HOLD_MOST // 2]:
            self._paused.discard(lane)
            self._node.links[lane].resume_reading()

    def forget_sessions(self) -> None:
        """The engine was rebuilt: the sessions that have begun meanwhile are new to it, too."""
        for lane in self._new_sessions:
            self._node.intake.forget_session(lane)
        self._new_sessions.clear()
