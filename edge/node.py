"""The node: what lies between the broker and the journal, wired together.

One event loop reads, decides and publishes; one writer thread commits. Nothing here blocks the loop for
long, and nothing that people look at runs in this process.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from devices.readings import Channel, Flag, Reading, address_of
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.adoption import Adoption
from edge.babblers import Babblers
from edge.broker_watch import BrokerWatch, Findings
from edge.clock import Clock
from edge.commits import MOST_MESSAGES, Commits
from edge.control import ControlServer
from edge.health import Code, Troubles
from edge.hearing import Hearing
from edge.history.catalogue import folder_of, taken
from edge.intake import Intake
from edge.mqtt.link import (
    Connected,
    Delivery,
    Link,
    NotConnected,
)
from edge.need import ALL_KNOWN, UNSTORED_SINCE
from edge.outbox import Outbox
from edge.owed import READINGS, extend
from edge.people import People
from edge.presence import Presence
from edge.rebuilding import Rebuilding
from edge.recovery import restore
from edge.store.errors import StoreError
from edge.store.journal import Journal
from edge.store.records import Committed, Gap, GapReason, KeptRules, OrderResult, OrderStatus
from edge.storing import Flight, Storing
from edge.succession import Succession
from edge.telling import Telling
from edge.throttle import Throttle
from edge.timekeeping import WATCH_S, Timekeeper
from rules.alarms import Alarm
from rules.decisions import Decision, Input
from rules.engine import Engine

log = logging.getLogger("anlin.node")

HOLD_MOST = 4 * MOST_MESSAGES
"""Uncommitted messages of a lane; above it this lane is not read until the disk has caught up. The other one is:
an emergency press does not wait for a backlog of telemetry.
"""

HEALTH_S = 60.0
POSITIONS_S = 10.0
"""Positions of the bridge ride on other commits; without any they are written this often."""

STOP_S = 1.5


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this gateway is."""

    site: str
    node: str
    topics: Topics
    commit_ms: int
    embedded_broker: bool = False


class AlarmPush(msgspec.Struct, frozen=True, tag_field="push", tag="alarm"):
    """A line for subscribers of the control socket."""

    number: int
    transition: str
    alarm: msgspec.Raw


class Node:
    """Takes what the links bring (`edge.mqtt.link.Inbox`) and sees it through."""

    def __init__(
        self,
        who: Identity,
        engine: Engine,
        registry: Registry,
        journal: Journal,
        clock: Clock,
        kept: KeptRules | None = None,
    ) -> None:
        self.who = who
        self.clock = clock
        self.journal = journal
        self.intake: Intake
        self.commits: Commits
        self.positions: dict[str, int]
        self.links: dict[Lane, Link] = {}
        self.lanes_up: set[Lane] = set()
        self.store_error: str | None = None
        """Why nothing can be stored now; the node works all the same, unless it is `deaf`."""
        self.deaf = False
        """A commit failed and the engine is about to be rebuilt: what is said now comes again."""
        self.troubles = Troubles()
        self.timekeeper = Timekeeper(clock, self.troubles)
        self.replayed = 0
        self.rules = Succession(engine, kept)
        self._registry = registry
        self._receive_maximum: dict[Lane, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._paused: set[Lane] = set()
        self._new_sessions: set[Lane] = set()
        """Begun while the store failed; told after the rebuild."""
        self._heard_at = dict.fromkeys(Lane, 0)
        """When each session last brought something, or came up (Unix ms)."""
        self._last_outgoing_id = 0
        self._hearing = Hearing(self, clock)
        self._backlog = self._hearing.backlog
        self.rebuilding = Rebuilding(self, journal, self.troubles, now_ms=clock.now_ms)
        self.people = People(self, clock, self._hearing)
        self._salvages_told = 0
        self._stopping = asyncio.Event()
        self.online = asyncio.Event()
        """The safety session is up."""
        self.safety_read = asyncio.Event()
        """Nothing waits in the safety session any more that was there when it came up; see `edge.safety_first`."""
        self.control: ControlServer | None = None
        self._telling = Telling()
        self._throttle = Throttle()
        self._babblers = Babblers(
            self._throttle,
            self,
            self.troubles,
            now_ms=clock.now_ms,
            able=lambda: not self.deaf,
        )
        self.begin()
        self._broker_watch = BrokerWatch(
            self.positions, self.intake.state.now, keeps_sessions=not who.embedded_broker
        )
        self.presence = Presence(
            who.topics,
            who.node,
            clock,
            self._broker_watch,
            link=lambda: self.links[Lane.SAFETY],
            find=self._find,
        )
        self.intake.batch.positions.update(self._broker_watch.positions)
        self.tell_salvaged()

    @property
    def board(self) -> dict[str, Alarm]:
        """See `edge.telling.Telling`."""
        return self._telling.board

    def tell_salvaged(self) -> None:
        """What was done about a damaged journal; the gap of a torn log is put on record here."""
        for each in self.journal.salvaged[self._salvages_told :]:
            log.error("the journal was damaged", extra={"what": each.message})
            self.troubles.say(Code.STORE_DAMAGED, each.message)
            if each.kept.name.endswith("-wal"):
                for gap in each.gaps:
                    self.lost(gap.lane, gap.count, gap.from_ms, self.clock.now_ms(), gap.reason)
        self._salvages_told = len(self.journal.salvaged)

    def begin(self, failed: Commits | None = None, error: BaseException | None = None) -> None:
        """From the store to a running engine: at the start and after a failed commit.

        Raises `StoreError`; then nothing has changed.
        """
        recovered = self.journal.recover()
        # What is history already keeps its numbers, also when the journal was begun anew without them.
        last_seq = max(recovered.last_seq, taken(folder_of(self.journal.path.parent)))
        first_outgoing_id = max(recovered.last_outgoing_id, self._last_outgoing_id)
        self.rules.found(recovered)
        engine, kept = self.rules.engine, self.rules.kept
        intake = Intake(
            engine,
            engine.new_state(),
            self.who.topics,
            self._registry,
            self._throttle,
            kept,
            own_status=self.who.topics.gateway(self.who.node, "status"),
        )
        commits = Commits(
            self.journal,
            intake,
            self,
            first_seq=last_seq + 1,
            commit_ms=self.who.commit_ms,
            last_now=recovered.last_now,
            patient=failed is None,
        )
        begin = partial(self.timekeeper.begin, recovered)
        self.replayed = restore(intake, recovered, self.journal, begin)
        # Ids go on rising: news of what was sent before the failure must not hit a new row.
        intake.next_outgoing_id = max(intake.next_outgoing_id, first_outgoing_id + 1)
        waiting = recovered.outgoing
        if failed is not None and error is not None:
            carried = failed.carried(error)
            failed.shut()
            extend(intake.batch, carried)
            waiting = [row for row in waiting if row.id not in set(carried.sent)]
        for lane in self._new_sessions:
            intake.forget_session(lane)
        self._new_sessions.clear()
        self.timekeeper.observe(intake)
        if self.rules.must_be_kept(recovered):
            intake.batch.rules = kept
            commits.snapshot_soon()  # it says which rules the journal after it was judged by
        self.intake, self.commits = intake, commits
        self._telling.board = {alarm.id: alarm for alarm in recovered.alarms}
        self.positions = dict(recovered.positions)
        self._waiting_rows = waiting
        self.store_error = None
        self.deaf = False
        self._backlog.begin()

    def attach(self, links: Mapping[Lane, Link], control: ControlServer | None = None) -> None:
        """The links to acknowledge and publish on, and where live changes go."""
        self.links = dict(links)
        self.control = control
        self.outbox = Outbox(
            self.links[Lane.SAFETY],
            self.who.topics,
            self.who.node,
            now_ms=self.clock.now_ms,
            board=lambda: self.board,
            on_sent=self._sent,
            adopt=Adoption(self, self.clock, begun=self.commits.begun).adopt,
        )
        self.outbox.replace(self.timekeeper.postponed(self._waiting_rows))

    async def run(self) -> None:
        """Serve until `stop`; then see to it that what is held is on disk and acknowledged."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.outbox.run(), name="outbox"),
                    group.create_task(self.rebuilding.run(), name="rebuild"),
                    group.create_task(self._write_positions(), name="positions"),
                    group.create_task(self._hearing.stay_awake(), name="pulse"),
                    group.create_task(self.presence.run(), name="online"),
                    group.create_task(self._watch_clock(), name="clock"),
                ]
                tasks += [
                    group.create_task(link.run(), name=f"link-{lane}") for lane, link in self.links.items()
                ]
                self._begin_in_need()
                self.commits.touched()
                self.arm()
                await self._stopping.wait()
                await self._stop()
                for task in tasks:
                    task.cancel()
        finally:
            self.commits.shut()
            self._backlog.shut()
            if self._timer is not None:
                self._timer.cancel()

    def _begin_in_need(self) -> None:
        """What the store cannot take from the start on, and what the run before this one could not store."""
        since = self.positions.get(UNSTORED_SINCE, 0)
        if since:
            now = self.clock.now_ms()
            if since != ALL_KNOWN:
                self.lost(READINGS, 0, since, now, GapReason.STORE_FAILED)
            self.advance(UNSTORED_SINCE, 0)
            self.commits.begin_reduced("there was no room when the gateway ended")
        if self.journal.unwritable is not None:
            self.commits.begin_without(self.journal.unwritable)

    def stop(self) -> None:
        """End in good order."""
        self._stopping.set()

    async def _stop(self) -> None:
        """Commit and acknowledge the open batch, say goodbye. Bounded: a hung disk or broker stops nothing."""
        with suppress(TimeoutError, NotConnected):
            async with asyncio.timeout(STOP_S):
                self.commits.snapshot_soon()
                self._babblers.finish()
                await self.commits.drain()
                await self.commits.drain()
                await self.presence.leave()

    # What the links bring

    def connected(self, connected: Connected) -> None:
        """A session is up; see `Inbox`."""
        lane, now = connected.lane, self.clock.now_ms()
        self.lanes_up.add(lane)
        self._heard_at[lane] = now
        self._receive_maximum[lane] = connected.receive_maximum
        self.commits.limit = max(1, min(MOST_MESSAGES, min(self._receive_maximum.values()) // 2))
        log.info("connected", extra={"lane": lane.value, "session_present": connected.session_present})
        if not connected.session_present:
            if self.deaf:
                self._new_sessions.add(lane)
            else:
                self.commits.forget_session(lane)
        self._throttle.connected(now)
        self._find(self._broker_watch.connected(connected, now))
        if lane is Lane.SAFETY:
            self.outbox.connected()
            self.intake.echoed = False
            self.safety_read.clear()
            self.online.set()
            self.presence.greet()
        if connected.session_present:
            self._hearing.catch_up()
        if self.lanes_up == set(Lane):
            self._hearing.listen(on=True)
        self._backlog.connected(lane, kept=connected.session_present)

    def received(self, lane: Lane, connection: int, deliveries: Sequence[Delivery]) -> None:
        """Take messages; see `Inbox`."""
        if self.deaf or self._stopping.is_set():
            return  # not acknowledged: they come again after the rebuild, or at the next start
        now = self._heard_at[lane] = self._hearing.now_awake()
        packet_ids = self.intake.receive(lane, deliveries, now)
        if self.intake.echoed:
            self.safety_read.set()
        self.commits.received(lane, connection, packet_ids, len(deliveries))
        self._backlog.heard(self.intake.state.waited_at)
        self.arm()
        held = self.commits.held(lane)
        if held >= self.commits.limit:
            self._throttle.full(now)
            if held > HOLD_MOST and lane not in self._paused:
                self._paused.add(lane)
                self.links[lane].pause_reading()
        self._babblers.watch()

    def noticed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """See `Inbox`."""
        self._find(self._broker_watch.noticed(topic, payload, self.clock.now_ms(), retained=retained))

    def disconnected(self, lane: Lane, _connection: int, reason: str) -> None:
        """See `Inbox`."""
        self.lanes_up.discard(lane)
        if self._stopping.is_set():
            return
        log.warning("lost the broker", extra={"lane": lane.value, "reason": reason})
        if lane is Lane.SAFETY:
            self.outbox.disconnected()
            self.online.clear()
            self.safety_read.set()
        self.commits.interrupted(lane)
        self._find(self._broker_watch.disconnected(lane, self._heard_at[lane]))
        self._hearing.listen(on=False)
        self._hearing.catch_up()
        self._backlog.disconnected(lane)

    def _find(self, findings: Findings) -> None:
        """Put on record, and say, what the broker did not keep."""
        for gap in findings.gaps:
            self.lost(gap.lane, gap.count, gap.from_ms, gap.to_ms, gap.reason)
        for code, message in findings.said.items():
            self.troubles.say(code, message)
        for code in findings.over:
            self.troubles.over(code)
        if findings.positions:
            self.intake.batch.positions.update(findings.positions)
            self.commits.touched()

    # Time

    def arm(self) -> None:
        """Wake up when the engine's next deadline comes."""
        due = Engine.next_deadline(self.intake.state)
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = due
        if due is not None:
            wait_s = max(0.0, (due - self.clock.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        if not self.deaf:
            self.intake.tick(self._hearing.now_awake())
            if self.intake.urgent:
                self.commits.close()
            self.arm()

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.look_at_clock()

    def look_at_clock(self) -> None:
        """Follow the wall clock. While not everything can be stored, time goes on as it did."""
        if not self.deaf and self.commits.storing is Storing.ALL:
            step = self.timekeeper.observe(self.intake)
            if step is not None:
                self.outbox.postpone(step.postpone_ms)
                self.commits.close()
                self.arm()
            elif self.clock.provisional:
                self.commits.touched()

    # What follows a commit, or goes without (`edge.storing.Follower`)

    def committed(self, flight: Flight, committed: Committed, *, late: bool) -> None:
        """See `edge.storing.Follower`."""
        batch = flight.batch
        if not late:
            self._release(flight)
        self.positions.update(batch.positions)
        if batch.rules is not None:
            self.rules.committed(batch.rules)
        self.timekeeper.committed(batch.seq)
        self._telling.stored(flight, [change for _, change in committed.changes], late=late)
        if self.control is not None:
            for number, change in committed.changes:
                self.control.push(AlarmPush(number, change.transition, msgspec.Raw(change.alarm.wire())))
        if batch.outgoing:
            outgoing = batch.outgoing
            if late or flight.told:
                outgoing, done = self._telling.not_overtaken(flight, late=late)
                if done:
                    self._sent(done, [])
            self.outbox.add(self.timekeeper.postponed(outgoing))
        self._backlog.on_disk(batch.now)
        self._resume(HOLD_MOST // 2)

    def unstored(self, flight: Flight, *, let_go: bool) -> None:
        """See `edge.storing.Follower`."""
        self.outbox.add(self._telling.early(flight))
        if let_go:
            self._release(flight)
            self.positions.update(flight.batch.positions)
            self._resume(HOLD_MOST // 2)

    def _release(self, flight: Flight) -> None:
        for (lane, connection), packet_ids in flight.acknowledgements.items():
            self.links[lane].acknowledge(connection, packet_ids)

    def storing(self, storing: Storing, reason: str) -> None:
        """See `edge.storing.Follower`."""
        log.warning("the store", extra={"takes": storing.value, "reason": reason})
        self.store_error = reason if storing is Storing.NONE else None
        if storing is Storing.ALARMS:
            self.troubles.say(Code.STORE_REDUCED, f"readings are not stored: {reason}")
        else:
            self.troubles.over(Code.STORE_REDUCED)
        if storing is Storing.NONE:
            self.commits.owed.stored = frozenset(
                alarm.id for alarm in self.board.values() if alarm.durable or alarm.version > 1
            )

    def _sent(self, ids: Sequence[int], orders: Sequence[tuple[str, OrderStatus]]) -> None:
        batch = self.intake.batch
        batch.sent.extend(ids)
        now = self.clock.now_ms()
        batch.order_results.extend(OrderResult(order, status, None, now) for order, status in orders)
        self.commits.touched()

    def failed(self, error: BaseException) -> None:
        """See `edge.storing.Follower`."""
        self.store_error = str(error)
        self.deaf = True
        self._last_outgoing_id = self.intake.next_outgoing_id
        self.rebuilding.failed(error)

    def begun(self) -> None:
        """See `edge.rebuilding.Rebuilt`."""
        self.outbox.replace(self.timekeeper.postponed(self._waiting_rows))
        for link in self.links.values():
            link.reconnect("the store failed; what was not acknowledged must come again")
        self._resume(0)
        self.commits.touched()
        self.arm()

    async def saved(self) -> bool:
        """Wait until everything said so far is on disk; false if it had to be let go without.

        Raises `StoreError` if it was forgotten: the engine is rebuilt from the store.
        """
        if self.deaf:
            raise StoreError(self.store_error)
        return await self.commits.saved()

    def _resume(self, most: int) -> None:
        """Read the paused lanes again of which no more than ``most`` messages are held."""
        for lane in [lane for lane in self._paused if self.commits.held(lane) <= most]:
            self._paused.discard(lane)
            self.links[lane].resume_reading()

    def tell(self, given: Input) -> None:
        """Tell the engine; see `edge.hearing.Hearer`."""
        self.intake.tell(given)
        self.commits.touched()
        self.arm()

    def follow(self, decision: Decision) -> None:
        """Put what must follow into the open batch; see `edge.adoption.Adopter`."""
        self.intake.follow(decision)
        self.commits.touched()
        self.arm()

    def feel(self, values: dict[str, bool | int | float | str]) -> None:
        """Tell the engine what the gateway knows of itself; it goes into the journal and to the cloud."""
        now = self.clock.now_ms()
        address = address_of(self.who.site, "gateway", self.who.node)
        if not self.deaf:
            flags = Flag.PROVISIONAL if self.clock.provisional else 0
            self.tell(Reading(Channel.TELEMETRY, address, values, now, now, flags))

    def judge(self, readings: Sequence[Reading]) -> None:
        """Take readings of throttled devices that were held back."""
        for reading in readings:
            self.intake.tell(reading)
        self.commits.touched()
        self.arm()

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """Put a known loss on record; see `Gap`."""
        gap = Gap(self.clock.now_ms(), lane, count, from_ms, to_ms, reason)
        self.intake.batch.gaps.append(gap)
        self.commits.touched()

    # Positions of the bridge

    def advance(self, feed: str, position: int) -> None:
        """The bridge has come so far; written with the next commit."""
        self.intake.batch.positions[feed] = position

    async def _write_positions(self) -> None:
        while True:
            await asyncio.sleep(POSITIONS_S)
            self._find(self._broker_watch.look(self.clock.now_ms()))
            if self.intake.batch.positions:
                self.commits.touched()
            if self.journal.figures.starved:
                self.commits.snapshot_soon()  # nothing older than the last snapshot is left to remove
