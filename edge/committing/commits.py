"""Group commit: when a batch closes, and what follows when it is on disk.

One batch is open, at most one is being written; the event loop goes on reading meanwhile. A batch closes at
once for an event or an alarm change, else after ``commit_ms``, after 2,000 messages or half the smaller
Receive Maximum. Acknowledgements, publications and news leave only after the commit, in order.

If a commit fails, that batch and the open one are discarded: nothing of them was acknowledged, so the
broker brings their messages again, and the engine is rebuilt from the store as after a crash. What a store does that
goes on failing is a ladder (`edge.committing.ladder`).
"""

import asyncio
from collections.abc import Sequence

from devices.topics import Lane
from edge.committing.ladder import Ladder
from edge.committing.need import Need
from edge.committing.owed import Owed, extend
from edge.committing.snapshots import Snapshots
from edge.committing.storing import Flight, Follower, Store, Storing, resolve, worth_writing
from edge.intake import Intake
from edge.store.inputs import Inputs
from edge.store.records import Batch, Committed, no_marks

MOST_MESSAGES = 2_000


class Commits:
    """Owns the open batch of ``intake``.

    ``patient``: see `Ladder`; ``last_now``: see `Need`.
    """

    def __init__(
        self,
        store: Store,
        intake: Intake,
        follower: Follower,
        *,
        first_seq: int,
        commit_ms: int,
        last_now: int,
        patient: bool = True,
    ) -> None:
        self.limit = MOST_MESSAGES
        self.open = Flight(Batch(0))
        self.writing: Flight | None = None
        self.since = 0.0
        self.idle = asyncio.Event()
        self.idle.set()
        self.failed = False
        self._snapshots = Snapshots(intake)
        self._need = Need(intake, self._snapshots, last_now)
        self.ladder = Ladder(self, store, follower, self._need, patient=patient)
        self._store = store
        self._intake = intake
        self._follower = follower
        self._seq = self.begun = first_seq - 1
        self._commit_s = commit_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        intake.batch = self.open.batch

    @property
    def storing(self) -> Storing:
        """How much the store takes."""
        return self.ladder.storing

    @property
    def owed(self) -> Owed:
        """What was decided and is not on disk."""
        return self._need.owed

    @property
    def writing_since(self) -> float | None:
        """Since when the store has owed an answer that is waited for (the event loop's seconds)."""
        return None if self.writing is None else self.since

    # --- what comes in --------------------------------------------------------------------------------------

    def held(self, lane: Lane) -> int:
        """Messages of a lane that wait for a commit, also those at QoS 0."""
        return self.open.taken[lane] + (0 if self.writing is None else self.writing.taken[lane])

    def received(self, lane: Lane, connection: int, packet_ids: Sequence[int], taken: int) -> None:
        """The intake has taken so many messages of this connection into the open batch."""
        self.open.taken[lane] += taken
        waiting = self.open.acknowledgements.setdefault((lane, connection), [])
        waiting.extend(packet_ids)
        if self._intake.urgent or len(waiting) >= self.limit or len(self.open.batch.inputs) >= self.limit:
            self.close()
        else:
            self.touched()

    def forget_session(self, lane: Lane) -> None:
        """The broker has begun a new session of this lane: also what is being written now belongs to the old."""
        for flight in (self.writing, self.ladder.late):
            if flight is not None:
                flight.forgotten.add(lane)
        self._intake.forget_session(lane)
        self.touched()

    def interrupted(self, lane: Lane) -> None:
        """The connection is gone: what it brought and is not on disk yet comes again, and is known then.

        Should the commit fail, this memory goes with the engine.
        """
        for flight in (self.writing, self.open):
            if flight is not None:
                self._intake.packets[lane].committed(flight.batch.packets[lane])

    def touched(self) -> None:
        """Something is in the open batch: it closes by its clock, or now if it is urgent."""
        if self._intake.urgent:
            self.close()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._commit_s, self.close)

    def close(self) -> None:
        """Write the open batch, now or as soon as the one before it is on disk."""
        self._due = True
        if self.writing is None:
            self._submit()

    def saved(self) -> "asyncio.Future[bool]":
        """Done when the open batch is on disk (true) or let go without (false); its error is `StoreError`."""
        future = self._loop.create_future()
        self.open.waiters.append(future)
        self.open.batch.now = max(self.open.batch.now, self._intake.state.now)
        self.touched()
        return future

    async def drain(self) -> None:
        """Close the open batch and wait until everything is on disk, or a commit has failed."""
        self._need.ending = self.storing is Storing.ALARMS
        self.close()
        if self.storing is Storing.NONE:
            self.ladder.probe()
        await self.idle.wait()

    def abandon(self, error: BaseException) -> None:
        """As if a commit had failed; nothing may be on its way to the store."""
        if not self.failed:
            self.fail(error)

    def shut(self) -> None:
        """Give nothing more to the store."""
        self.failed = True
        self.ladder.shut()
        if self._timer is not None:
            self._timer.cancel()

    def succeed(self) -> "asyncio.Future[bool]":
        """Other rules hold from here on: the open batch carries them and a snapshot, and closes now; see `saved`."""
        self.open.succession = True
        saved = self.saved()
        self.close()
        return saved

    def snapshot_soon(self) -> None:
        """Let the next batch without an alarm carry a snapshot."""
        self._snapshots.soon()

    # --- to the disk ----------------------------------------------------------------------------------------

    def _submit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        flight, need = self.open, self._need
        batch = flight.batch
        if self.failed or not (
            flight.acknowledgements or flight.waiters or need.climbing or need.ending or not batch.empty
        ):
            flight.taken.clear()
            return
        batch.now = max(batch.now, self._intake.state.now)
        self._intake.urgent = False
        self.open = Flight(Batch(0))
        self._intake.batch = self.open.batch
        match self.storing:
            case Storing.ALL if flight.succession:
                self._snapshots.add(batch)
            case Storing.ALL:
                self._snapshots.add_if_due(batch)
            case Storing.ALARMS:
                need.prepare(flight)
            case Storing.NONE:
                need.owed.add(batch)
                self.let_go(flight)
                return
        self.since = self._loop.time()
        self.ladder.watch()
        if worth_writing(flight.batch):
            self.writing = flight
            self.give(flight)
        else:
            self._landed(flight, Committed(self._seq, []))

    def give(self, flight: Flight) -> None:
        """See `edge.committing.ladder.Batches`."""
        self._seq += 1
        flight.batch.seq = self._seq
        flight.batch.doubts = self._need.doubts
        flight.given = True
        self.idle.clear()
        self._store.commit(flight.batch).add_done_callback(lambda future: self._answered(flight, future))

    def _answered(self, flight: Flight, future: "asyncio.Future[Committed]") -> None:
        error = future.exception()
        flight.given = False
        if error is not None:
            self.ladder.refused(flight, error)
            return
        committed = future.result()
        self._need.written(flight.batch, committed.landed)
        if flight is self.ladder.late:
            self.ladder.late_landed(flight, committed)
        else:
            self.writing = None
            self._landed(flight, committed)
        if self._due and self.writing is None:
            self._submit()
        if self.writing is None and self.ladder.late is None:
            self.idle.set()

    def _landed(self, flight: Flight, committed: Committed) -> None:
        """What waits for ``flight`` need wait no more."""
        self._remember_packets(flight)
        self._follower.committed(flight, committed, late=False)
        resolve(flight, durable=True)
        self.ladder.landed(flight)

    def _remember_packets(self, flight: Flight) -> None:
        for lane, marks in flight.batch.packets.items():
            if lane not in flight.forgotten:
                self._intake.packets[lane].committed(marks)

    def let_go(self, flight: Flight) -> None:
        """See `edge.committing.ladder.Batches`."""
        self._remember_packets(flight)
        self._follower.unstored(flight, let_go=True)
        resolve(flight, durable=False)

    def fail(self, error: BaseException) -> None:
        """See `edge.committing.ladder.Batches`."""
        self.failed = True
        self.idle.set()
        self._follower.failed(error)

    def carried(self, error: BaseException) -> Batch:
        """The engine was rebuilt: what nobody would say again, for its first batch."""
        carried = Batch(0)
        for flight in (self.writing, self.open):
            if flight is not None:
                extend(carried, flight.batch)
                resolve(flight, durable=False, error=error)
        carried.changes, carried.outgoing, carried.orders, carried.packets = [], [], [], no_marks()
        carried.now, carried.inputs, carried.clock_sets = 0, Inputs(), []  # the clock is looked at anew
        return carried

    def unkept_ms(self, last_seq: int) -> int:
        """By how much the clock was set in batches after ``last_seq``, the last on disk."""
        flights = [flight for flight in (self.writing, self.open) if flight is not None]
        unkept = [flight.batch for flight in flights if not 0 < flight.batch.seq <= last_seq]
        return sum(each.by_ms for batch in unkept for each in batch.clock_sets)

    def go_on(self, reason: str) -> None:
        """The engine could not be rebuilt: this one lives on without the store."""
        self.failed = False
        self.ladder.go_on(reason)
