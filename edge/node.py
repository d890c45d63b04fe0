"""The node: what lies between the broker and the journal, wired together, from its start to its end.

One event loop reads, decides and publishes; one writer thread commits. Nothing here blocks the loop for
long, and nothing that people look at runs in this process. What comes is taken by `edge.ingest`, what follows a
commit is done by `edge.effects`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from devices.readings import Channel, Flag, Reading, address_of
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.babblers import Babblers
from edge.broker.broker_watch import BrokerWatch, Findings
from edge.broker.presence import Presence
from edge.clock import Clock
from edge.committing.adoption import Adoption
from edge.committing.commits import Commits
from edge.committing.need import ALL_KNOWN, UNSTORED_SINCE
from edge.committing.owed import READINGS, extend
from edge.committing.telling import Telling
from edge.control import ControlServer
from edge.effects import Effects
from edge.health import Troubles
from edge.hearing import Hearing
from edge.history.catalogue import folder_of, taken
from edge.ingest import Ingest
from edge.intake import Intake
from edge.mqtt.link import Link, NotConnected
from edge.outbox import Outbox
from edge.people import People
from edge.rebuilding import Rebuilding
from edge.recovery import restore
from edge.store.errors import StoreError
from edge.store.journal import Journal
from edge.store.records import Gap, GapReason, KeptRules
from edge.succession import Succession
from edge.throttle import Throttle
from edge.timekeeping import Timekeeper
from edge.waking import Waking
from rules.alarms import Alarm
from rules.decisions import Decision, Input, PresenceUnknown
from rules.engine import Engine

log = logging.getLogger("anlin.node")

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


class Node:
    """What its parts share, and what each of them can ask of the others.

    They live as long as it does, but for intake and commits: `begin` makes these at the start and after a failed
    commit.
    """

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
        self.stopping = asyncio.Event()
        self.control: ControlServer | None = None
        self._registry = registry
        self._last_outgoing_id = 0
        self._telling = Telling()
        self._hearing = Hearing(self, clock)
        self._backlog = self._hearing.backlog
        self.rebuilding = Rebuilding(self, journal, self.troubles, now_ms=clock.now_ms)
        self.people = People(self, clock, self._hearing)
        self.waking = Waking(self, clock, self._hearing, self.timekeeper)
        self._effects = Effects(self, self._telling, self.timekeeper, self._backlog, self.troubles, clock)
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
            find=self.find,
        )
        self.ingest = Ingest(
            self,
            clock,
            self._hearing,
            self.waking,
            self._throttle,
            self._babblers,
            self._broker_watch,
        )
        self.intake.batch.positions.update(self._broker_watch.positions)
        self.rebuilding.tell_salvaged()

    @property
    def board(self) -> dict[str, Alarm]:
        """See `edge.committing.telling.Telling`."""
        return self._telling.board

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
            self._effects,
            first_seq=last_seq + 1,
            commit_ms=self.who.commit_ms,
            last_now=recovered.last_now,
            patient=failed is None,
        )
        unkept_ms = 0 if failed is None else failed.unkept_ms(recovered.last_seq)
        begin = partial(self.timekeeper.begin, recovered, unkept_ms)
        self.replayed = restore(intake, recovered, self.journal, begin, self._registry.mounted)
        # Ids go on rising: news of what was sent before the failure must not hit a new row.
        intake.next_outgoing_id = max(intake.next_outgoing_id, first_outgoing_id + 1)
        waiting = recovered.outgoing
        if failed is not None and error is not None:
            carried = failed.carried(error)
            failed.shut()
            extend(intake.batch, carried)
            waiting = [row for row in waiting if row.id not in set(carried.sent)]
        self.timekeeper.observe(intake)
        if self.who.embedded_broker and failed is None:
            intake.tell(PresenceUnknown(intake.state.now))  # it began with us, and knows nobody yet
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
            on_sent=self._effects.sent,
            adopt=Adoption(self, self.clock, begun=self.commits.begun).adopt,
            on_adopted=self._backlog.adopted,
        )
        self.outbox.replace(self.timekeeper.postponed(self._waiting_rows))
        self._backlog.adopting()

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
                    group.create_task(self.waking.watch_clock(), name="clock"),
                ]
                tasks += [
                    group.create_task(link.run(), name=f"link-{lane}") for lane, link in self.links.items()
                ]
                self._begin_in_need()
                self.commits.touched()
                self.arm()
                await self.stopping.wait()
                await self._stop()
                for task in tasks:
                    task.cancel()
        finally:
            self.commits.shut()
            self._backlog.shut()
            self.waking.shut()

    def _begin_in_need(self) -> None:
        """What the store cannot take from the start on, and what the run before this one could not store."""
        since = self.positions.get(UNSTORED_SINCE, 0)
        if since:
            now = self.clock.now_ms()
            if since != ALL_KNOWN:
                self.lost(READINGS, 0, since, now, GapReason.STORE_FAILED)
            self.advance(UNSTORED_SINCE, 0)
            self.commits.ladder.begin_reduced("there was no room when the gateway ended")
        if self.journal.unwritable is not None:
            self.commits.ladder.begin_without(self.journal.unwritable)

    def stop(self) -> None:
        """End in good order."""
        self.stopping.set()

    async def _stop(self) -> None:
        """Commit and acknowledge the open batch, say goodbye. Bounded: a hung disk or broker stops nothing."""
        with suppress(TimeoutError, NotConnected):
            async with asyncio.timeout(STOP_S):
                self.commits.snapshot_soon()
                self._babblers.finish()
                await self.commits.drain()
                await self.commits.drain()
                await self.presence.leave()

    def fall_deaf(self, error: BaseException) -> None:
        """See `edge.effects.Acting`."""
        self.store_error = str(error)
        self.deaf = True
        self._last_outgoing_id = self.intake.next_outgoing_id
        self.rebuilding.failed(error)

    def begun(self) -> None:
        """See `edge.rebuilding.Rebuilt`."""
        self.outbox.replace(self.timekeeper.postponed(self._waiting_rows))
        for link in self.links.values():
            link.reconnect("the store failed; what was not acknowledged must come again")
        self.ingest.forget_sessions()
        self.ingest.caught_up()
        self.commits.touched()
        self.waking.arm_anew()

    # What its parts say and ask

    def arm(self) -> None:
        """Wake up when the engine's next deadline comes."""
        self.waking.arm()

    async def saved(self) -> bool:
        """Wait until everything said so far is on disk; false if it had to be let go without.

        Raises `StoreError` if it was forgotten: the engine is rebuilt from the store.
        """
        if self.deaf:
            raise StoreError(self.store_error)
        return await self.commits.saved()

    def tell(self, given: Input) -> None:
        """Tell the engine; see `edge.hearing.Hearer`."""
        self.intake.tell(given)
        self.commits.touched()
        self.arm()

    def follow(self, decision: Decision) -> None:
        """Put what must follow into the open batch; see `edge.committing.adoption.Adopter`."""
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

    def find(self, findings: Findings) -> None:
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

    # Positions of the bridge

    def advance(self, feed: str, position: int) -> None:
        """A reader of the journal has come so far; written with the next commit."""
        self.intake.batch.positions[feed] = position

    async def _write_positions(self) -> None:
        while True:
            await asyncio.sleep(POSITIONS_S)
            self.find(self._broker_watch.look(self.clock.now_ms()))
            if self.intake.batch.positions:
                self.commits.touched()
            if self.journal.figures.starved:
                self.commits.snapshot_soon()  # nothing older than the last snapshot is left to remove
