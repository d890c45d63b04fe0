"""The node: what lies between the broker and the journal, wired together.

One event loop reads, decides and publishes; one writer thread commits. Nothing here blocks the loop for
long, and nothing that people look at runs in this process.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from devices.readings import Channel, Reading, address_of
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.broker_watch import BrokerWatch, Findings
from edge.clock import Clock
from edge.commits import MOST_MESSAGES, Commits
from edge.control import ControlServer
from edge.health import Troubles
from edge.intake import Intake
from edge.mqtt.link import Connected, Delivery, Link, NotConnected, PublishRefusedError
from edge.outbox import Outbox
from edge.recovery import restore
from edge.store.errors import StoreError
from edge.store.journal import Journal
from edge.store.records import Batch, Committed, Gap, GapReason, OrderResult, OrderStatus
from rules.alarms import Alarm
from rules.decisions import Acknowledge, Close, Listening
from rules.engine import Engine

log = logging.getLogger("anlin.node")

HOLD_MOST = 4 * MOST_MESSAGES
"""Uncommitted messages; above it the links are not read until the disk has caught up."""

HEALTH_S = 60.0
POSITIONS_S = 10.0
"""Positions of the bridge ride on other commits; without any they are written this often."""

STOP_S = 1.5
REBUILD_AGAIN_S = 1.0


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
        self, who: Identity, engine: Engine, registry: Registry, journal: Journal, clock: Clock
    ) -> None:
        self.who = who
        self.clock = clock
        self.journal = journal
        self.started_at = clock.now_ms()
        self.board: dict[str, Alarm] = {}
        """Standing alarms by id, as committed."""
        self.links: dict[Lane, Link] = {}
        self.lanes_up: set[Lane] = set()
        self.store_error: str | None = None
        self.troubles = Troubles()
        self.replayed = 0
        self._engine = engine
        self._registry = registry
        self._receive_maximum: dict[Lane, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._paused = False
        self._new_sessions: set[Lane] = set()
        """Begun while the store failed; told after the rebuild."""
        self._heard_at = dict.fromkeys(Lane, 0)
        """When each session last brought something, or came up (Unix ms)."""
        self._gaps: list[Gap] = []
        """Not on disk yet; a failed commit does not make them forgotten."""
        self._last_outgoing_id = 0
        self._rebuilding = asyncio.Event()
        self._greet = asyncio.Event()
        self._stopping = asyncio.Event()
        self.online = asyncio.Event()
        """The safety session is up."""
        self.control: ControlServer | None = None
        self._begin()
        self._broker_watch = BrokerWatch(
            self.positions, self.intake.state.now, keeps_sessions=not who.embedded_broker
        )

    def _begin(self) -> None:
        """From the store to a running engine: at the start and after a failed commit."""
        recovered = self.journal.recover()
        first_outgoing_id = max(recovered.last_outgoing_id, self._last_outgoing_id)
        self.clock.not_before(recovered.last_now)
        self.intake = Intake(self._engine, self._engine.new_state(), self.who.topics, self._registry)
        now = self.clock.now_ms()
        self.board = {alarm.id: alarm for alarm in recovered.alarms}
        self.commits = Commits(
            self.journal,
            self.intake,
            first_seq=recovered.last_seq + 1,
            commit_ms=self.who.commit_ms,
            on_committed=self._committed,
            on_failed=self._commit_failed,
        )
        self.replayed = restore(self.intake, recovered, self.journal, now)
        # Ids go on rising: news of what was sent before the failure must not hit a new row.
        self.intake.next_outgoing_id = max(self.intake.next_outgoing_id, first_outgoing_id + 1)
        for lane in self._new_sessions:
            self.intake.forget_session(lane)
        self._new_sessions.clear()
        if recovered.rules_hash != self._engine.rules.hash:
            self.commits.snapshot_soon()  # it says which rules the journal after it was judged by
        self.positions = dict(recovered.positions)
        self._waiting_rows = recovered.outgoing
        self.store_error = None

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
        )
        self.outbox.replace(self._waiting_rows)

    async def run(self) -> None:
        """Serve until `stop`; then see to it that what is held is on disk and acknowledged."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.outbox.run(), name="outbox"),
                    group.create_task(self._rebuild_when_failed(), name="rebuild"),
                    group.create_task(self._write_positions(), name="positions"),
                    group.create_task(self._say_online(), name="online"),
                ]
                tasks += [
                    group.create_task(link.run(), name=f"link-{lane}") for lane, link in self.links.items()
                ]
                self.commits.touched()
                self._arm()
                await self._stopping.wait()
                await self._stop()
                for task in tasks:
                    task.cancel()
        finally:
            self.commits.shut()
            if self._timer is not None:
                self._timer.cancel()

    def stop(self) -> None:
        """End in good order."""
        self._stopping.set()

    async def _stop(self) -> None:
        """Commit and acknowledge the open batch, say goodbye. Bounded: a hung disk or broker stops nothing."""
        with suppress(TimeoutError, NotConnected):
            async with asyncio.timeout(STOP_S):
                self.commits.snapshot_soon()
                await self.commits.drain()
                await self.commits.drain()
                await self._publish_status(b"offline")

    async def _say_online(self) -> None:
        while True:
            await self._greet.wait()
            self._greet.clear()
            with suppress(NotConnected):
                await self._publish_status(b"online")

    async def _publish_status(self, status: bytes) -> None:
        topic = self.who.topics.gateway(self.who.node, "status")
        try:
            await self.links[Lane.SAFETY].publish(topic, status, retain=True)
        except PublishRefusedError as error:
            log.error("the broker refuses a publication", extra={"topic": topic, "reason": str(error)})  # noqa: TRY400

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
            if self.store_error is None:
                self.commits.forget_session(lane)
            else:
                self._new_sessions.add(lane)
        self._find(self._broker_watch.connected(connected, now))
        if lane is Lane.SAFETY:
            self.outbox.connected()
            self.online.set()
            self._greet.set()
        if self.lanes_up == set(Lane):
            self._listen(on=True)

    def received(self, lane: Lane, connection: int, deliveries: Sequence[Delivery]) -> None:
        """Take messages; see `Inbox`."""
        if self.store_error is not None or self._stopping.is_set():
            return  # not acknowledged: they come again after the rebuild, or at the next start
        now = self._heard_at[lane] = self.clock.now_ms()
        packet_ids = self.intake.receive(lane, deliveries, now)
        self.commits.received(lane, connection, packet_ids)
        self._arm()
        if not self._paused and self.commits.uncommitted > HOLD_MOST:
            self._pause(paused=True)

    def noticed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """See `Inbox`."""
        self._find(self._broker_watch.noticed(topic, payload, self.clock.now_ms(), retained=retained))

    def heard_at(self, lane: Lane) -> int:
        """When a session last brought something (Unix ms)."""
        return self._heard_at[lane]

    def disconnected(self, lane: Lane, _connection: int, reason: str) -> None:
        """See `Inbox`."""
        self.lanes_up.discard(lane)
        if self._stopping.is_set():
            return
        log.warning("lost the broker", extra={"lane": lane.value, "reason": reason})
        if lane is Lane.SAFETY:
            self.outbox.disconnected()
            self.online.clear()
        self.commits.interrupted(lane)
        self._find(self._broker_watch.disconnected(lane, self._heard_at[lane]))
        self._listen(on=False)

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

    def _listen(self, *, on: bool) -> None:
        """Silence counts only while both sessions are up."""
        if self.store_error is None and on != (self.intake.state.listening_since is not None):
            self.intake.tell(Listening(on, self.clock.now_ms()))
            self.commits.touched()
            self._arm()

    # Time

    def _arm(self) -> None:
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
        if self.store_error is None:
            self.intake.tick(self.clock.now_ms())
            if self.intake.urgent:
                self.commits.close()
            self._arm()

    # What follows a commit

    def _committed(
        self, batch: Batch, committed: Committed, acknowledgements: dict[tuple[Lane, int], list[int]]
    ) -> None:
        for (lane, connection), packet_ids in acknowledgements.items():
            self.links[lane].acknowledge(connection, packet_ids)
        self.positions.update(batch.positions)
        if batch.gaps:
            self._gaps = [gap for gap in self._gaps if gap not in batch.gaps]
        for number, change in committed.changes:
            alarm = change.alarm
            if alarm.on_board:
                self.board[alarm.id] = alarm
            else:
                self.board.pop(alarm.id, None)
            if self.control is not None:
                self.control.push(AlarmPush(number, change.transition, msgspec.Raw(alarm.wire())))
        if batch.outgoing:
            self.outbox.add(batch.outgoing)
        if self._waiting:
            self._settle(batch.seq, None)
        if self._paused and self.commits.uncommitted <= HOLD_MOST // 2:
            self._pause(paused=False)

    def _sent(self, ids: Sequence[int], orders: Sequence[tuple[str, OrderStatus]]) -> None:
        batch = self.intake.batch
        batch.sent.extend(ids)
        now = self.clock.now_ms()
        batch.order_results.extend(OrderResult(order, status, None, now) for order, status in orders)
        self.commits.touched()

    def _commit_failed(self, error: BaseException) -> None:
        self.store_error = str(error)
        self._last_outgoing_id = self.intake.next_outgoing_id
        log.error("a commit failed; the engine is rebuilt from the store", extra={"reason": str(error)})
        self._settle(None, error)
        self._rebuilding.set()

    async def _rebuild_when_failed(self) -> None:
        while True:
            await self._rebuilding.wait()
            self._rebuilding.clear()
            while True:
                try:
                    self.journal.reset()
                    self._begin()
                    self.intake.batch.gaps.extend(self._gaps)
                    self.intake.batch.positions.update(self._broker_watch.positions)
                    break
                except StoreError as error:
                    self.store_error = str(error)
                    await asyncio.sleep(REBUILD_AGAIN_S)
            self.outbox.replace(self._waiting_rows)
            for link in self.links.values():
                link.reconnect("the store failed; what was not acknowledged must come again")
            self._pause(paused=False)
            self._arm()

    async def committed(self) -> None:
        """Wait until everything said so far is on disk. Raises `StoreError` if it is not."""
        if self.store_error is not None:
            raise StoreError(self.store_error)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((self.intake.batch.seq, future))
        self.commits.touched()
        await future

    def _settle(self, seq: int | None, error: BaseException | None) -> None:
        left = []
        for wanted, future in self._waiting:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            elif seq is not None and wanted <= seq:
                future.set_result(None)
            else:
                left.append((wanted, future))
        self._waiting = left

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        for link in self.links.values():
            if paused:
                link.pause_reading()
            else:
                link.resume_reading()

    # What people say

    async def acknowledge(self, alarm_id: str, by: str, comment: str) -> Alarm | None:
        """Acknowledge a standing alarm; the alarm after the commit, None if it does not stand."""
        return await self._order(Acknowledge(alarm_id, by, comment, self.clock.now_ms()))

    async def close(self, alarm_id: str, by: str, comment: str) -> Alarm | None:
        """Take an alarm off the board where only a person can; None if it does not stand."""
        return await self._order(Close(alarm_id, by, comment, self.clock.now_ms()))

    async def _order(self, given: Acknowledge | Close) -> Alarm | None:
        if self.store_error is not None:
            raise StoreError(self.store_error)
        state = self.intake.state
        key = state.keys.get(given.alarm_id)
        if key is None:
            return None
        standing = state.alarms[key]
        decision = self.intake.tell(given)
        if not decision.changes:
            if self.board.get(standing.id) != standing:
                await self.committed()  # said by somebody else a moment ago, and not on disk yet
            return standing
        self._arm()
        await self.committed()
        return decision.changes[-1].alarm

    def feel(self, values: dict[str, bool | int | float | str]) -> None:
        """Tell the engine what the gateway knows of itself; it goes into the journal and to the cloud."""
        now = self.clock.now_ms()
        address = address_of(self.who.site, "gateway", self.who.node)
        if self.store_error is None:
            self.intake.tell(Reading(Channel.TELEMETRY, address, values, now, now))
            self.commits.touched()
            self._arm()

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """Put a known loss on record; see `Gap`."""
        gap = Gap(self.clock.now_ms(), lane, count, from_ms, to_ms, reason)
        self._gaps.append(gap)
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
