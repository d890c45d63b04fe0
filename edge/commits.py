"""Group commit: when a batch closes, and what follows when it is on disk – or cannot get there.

One batch is open, at most one is being written; the event loop goes on reading meanwhile. A batch closes at
once for an event or an alarm change, else after ``commit_ms``, after 2,000 messages or half the smaller
Receive Maximum. Acknowledgements, publications and news leave only after the commit, in order.

If a single commit fails, that batch and the open one are discarded: nothing of them was acknowledged, so the
broker brings their messages again, and the engine is rebuilt from the store as after a crash. Only with an
alarm in it a batch is tried once more as it is: an alarm cannot wait for that. What a store does that goes on
failing is a ladder (docs/adr/0008): `Storing.ALL`, `ALARMS` (no readings), `NONE` (nothing;
what was judged is acknowledged and alarms are told at once as not durable). Down it goes step by step, up
again only by commits that succeeded: first everything that is owed, then a snapshot of the whole engine.
"""

import asyncio
import logging
from collections.abc import Sequence

from devices.topics import Lane
from edge.intake import Intake
from edge.need import Need
from edge.owed import Owed, extend
from edge.snapshots import Snapshots
from edge.store.errors import StoreError
from edge.store.records import Batch, Committed, no_marks
from edge.store.salvage import is_damage
from edge.storing import Flight, Follower, Store, Storing, is_full, resolve, worth_writing

log = logging.getLogger("anlin.commits")

MOST_MESSAGES = 2_000
TELL_S = 0.5
"""So long does an alarm wait for the disk before it is told as not durable."""
HUNG_S = 2.0
"""So long may a commit take, or commits without readings fail, before nothing waits for the store any more."""
AGAIN_S = 0.25
"""Between attempts to store at least the alarms."""
PROBE_S = (1.0, 2.0, 4.0, 8.0)
"""Between attempts to climb one step of the ladder."""
STEADY_S = 60.0
"""So long must the store work before the next failure is looked at with fresh patience."""


class Commits:
    """Owns the open batch of ``intake``.

    ``patient``: a single failure is answered by a rebuild; not so in the engine that was just rebuilt for one.
    ``last_now``: see `Need`.
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
        self.storing = Storing.ALL
        self._snapshots = Snapshots(intake)
        self._need = Need(intake, self._snapshots, last_now)
        self._store = store
        self._intake = intake
        self._follower = follower
        self._seq = self.begun = first_seq - 1
        self._commit_s = commit_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._open = Flight(Batch(0))
        self._writing: Flight | None = None
        self._refusal = ""
        self._since = 0.0
        """When it was first given to the store."""
        self._late: Flight | None = None
        """Given to the store, and nothing waits for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._prober: asyncio.Handle | None = None
        self._probes = 0
        self._patient = patient
        self._patient_from = 0.0
        self._due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed = False
        intake.batch = self._open.batch

    @property
    def owed(self) -> Owed:
        """What was decided and is not on disk."""
        return self._need.owed

    @property
    def writing_since(self) -> float | None:
        """Since when the store has owed an answer that is waited for (the event loop's seconds)."""
        return None if self._writing is None else self._since

    # --- what comes in --------------------------------------------------------------------------------------

    def held(self, lane: Lane) -> int:
        """Messages of a lane that wait for a commit, also those at QoS 0."""
        return self._open.taken[lane] + (0 if self._writing is None else self._writing.taken[lane])

    def received(self, lane: Lane, connection: int, packet_ids: Sequence[int], taken: int) -> None:
        """The intake has taken so many messages of this connection into the open batch."""
        self._open.taken[lane] += taken
        waiting = self._open.acknowledgements.setdefault((lane, connection), [])
        waiting.extend(packet_ids)
        if self._intake.urgent or len(waiting) >= self.limit or len(self._open.batch.inputs) >= self.limit:
            self.close()
        else:
            self.touched()

    def forget_session(self, lane: Lane) -> None:
        """The broker has begun a new session of this lane: also what is being written now belongs to the old."""
        for flight in (self._writing, self._late):
            if flight is not None:
                flight.forgotten.add(lane)
        self._intake.forget_session(lane)
        self.touched()

    def interrupted(self, lane: Lane) -> None:
        """The connection is gone: what it brought and is not on disk yet comes again, and is known then.

        Should the commit fail, this memory goes with the engine.
        """
        for flight in (self._writing, self._open):
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
        if self._writing is None:
            self._submit()

    def saved(self) -> "asyncio.Future[bool]":
        """Done when the open batch is on disk (true) or let go without (false); its error is `StoreError`."""
        future = self._loop.create_future()
        self._open.waiters.append(future)
        self._open.batch.now = max(self._open.batch.now, self._intake.state.now)
        self.touched()
        return future

    async def drain(self) -> None:
        """Close the open batch and wait until everything is on disk, or a commit has failed."""
        self._need.ending = self.storing is Storing.ALARMS
        self.close()
        if self.storing is Storing.NONE:
            self._probe()
        await self._idle.wait()

    def abandon(self, error: BaseException) -> None:
        """As if a commit had failed; nothing may be on its way to the store."""
        if not self._failed:
            self._failed = True
            self._follower.failed(error)

    def shut(self) -> None:
        """Give nothing more to the store."""
        self._failed = True
        for timer in (self._timer, self._watcher, self._again, self._prober):
            if timer is not None:
                timer.cancel()

    def succeed(self) -> "asyncio.Future[bool]":
        """Other rules hold from here on: the open batch carries them and a snapshot, and closes now; see `saved`."""
        self._open.succession = True
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
        flight, need = self._open, self._need
        batch = flight.batch
        if self._failed or not (
            flight.acknowledgements or flight.waiters or need.climbing or need.ending or not batch.empty
        ):
            flight.taken.clear()
            return
        batch.now = max(batch.now, self._intake.state.now)
        self._intake.urgent = False
        self._open = Flight(Batch(0))
        self._intake.batch = self._open.batch
        match self.storing:
            case Storing.ALL if flight.succession:
                self._snapshots.add(batch)
            case Storing.ALL:
                self._snapshots.add_if_due(batch)
            case Storing.ALARMS:
                need.prepare(flight)
            case Storing.NONE:
                need.owed.add(batch)
                self._let_go(flight)
                return
        self._since = self._loop.time()
        self._watch()
        if worth_writing(flight.batch):
            self._writing = flight
            self._give(flight)
        else:
            self._landed(flight, Committed(self._seq, []))

    def _give(self, flight: Flight) -> None:
        self._seq += 1
        flight.batch.seq = self._seq
        flight.batch.doubts = self._need.doubts
        flight.given = True
        self._idle.clear()
        self._store.commit(flight.batch).add_done_callback(lambda future: self._answered(flight, future))

    def _answered(self, flight: Flight, future: "asyncio.Future[Committed]") -> None:
        error = future.exception()
        flight.given = False
        if error is not None:
            self._refused(flight, error)
            return
        committed = future.result()
        self._need.written(flight.batch, committed.landed)
        if flight is self._late:
            self._late = None
            self._follower.committed(flight, committed, late=True)
            if self.storing is Storing.NONE:
                self._switch(Storing.ALARMS, "the store takes alarms again")
                self._prober = self._loop.call_soon(self._probe)
        else:
            self._writing = None
            self._landed(flight, committed)
        if self._due and self._writing is None:
            self._submit()
        if self._writing is None and self._late is None:
            self._idle.set()

    def _landed(self, flight: Flight, committed: Committed) -> None:
        """What waits for ``flight`` need wait no more."""
        self._remember_packets(flight)
        self._follower.committed(flight, committed, late=False)
        resolve(flight, durable=True)
        if self.storing is Storing.ALL:
            if not self._patient and self._loop.time() >= self._patient_from:
                self._patient, self._probes = True, 0
        elif flight.batch.snapshot is not None:
            self._need.over()
            self._patient_from = self._loop.time() + STEADY_S
            self._store.keep_ballast(keep=True)
            self._switch(Storing.ALL, "the store takes everything again")

    def _remember_packets(self, flight: Flight) -> None:
        for lane, marks in flight.batch.packets.items():
            if lane not in flight.forgotten:
                self._intake.packets[lane].committed(marks)

    # --- a store in need: down ------------------------------------------------------------------------------

    def _refused(self, flight: Flight, error: BaseException) -> None:
        """A commit has failed."""
        self._refusal = str(error)
        told = bool(flight.told or self._open.told)
        full = is_full(error) or not self._store.has_room()
        alarms = bool(flight.batch.changes or self._open.batch.changes)
        damaged = isinstance(error, StoreError) and is_damage(error)
        patient = self._patient or damaged or flight.succession
        if self.storing is Storing.ALL and patient and not full and not told:
            if alarms and self._patient and not damaged:  # to be brought again takes the broker a second
                self._patient = False
                self._store.reset()
                self._need.doubt(flight.batch.seq)
                flight.batch.repeats = flight.batch.seq
                self._give(flight)
                return
            self._failed = True
            self._idle.set()
            self._follower.failed(error)
            return
        self._store.reset()
        if full:
            self._store.keep_ballast(keep=False)
        self._need.whole = True
        climbed = flight.batch.snapshot is not None and self.storing is Storing.ALARMS
        self._need.reduce_again(flight)
        if flight is self._late:
            self._late = None
            self.owed.add_before(flight.batch)
            self._probe_later(str(error))
            self._idle.set()
            return
        if self.storing is Storing.ALL:
            self._switch(Storing.ALARMS, str(error))
            self._patient = False
            climbed = True
        if climbed:
            self._since = self._loop.time()
            self._probe_later(str(error))
            self._give(flight)
        elif self._loop.time() - self._since >= HUNG_S:
            self._give_up(str(error))
        else:
            self._again = self._loop.call_later(AGAIN_S, self._give, flight)

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = self._loop.call_later(TELL_S, self._look)

    def _look(self) -> None:
        """How long does the store take? Nobody is told late of an alarm for its sake."""
        self._watcher = None
        if self._writing is None or self._failed:
            return
        waited_s = self._loop.time() - self._since
        if waited_s >= HUNG_S:
            silent = f"the store has not answered for {waited_s:.1f} s"
            self._give_up(silent if self._writing.given else self._refusal)
            return
        if waited_s >= TELL_S:
            for flight in (self._writing, self._open):
                if len(flight.told) < len(flight.batch.outgoing):
                    self._follower.unstored(flight, let_go=False)
        self._watcher = self._loop.call_later(max(AGAIN_S / 2, TELL_S - waited_s), self._look)

    def _give_up(self, reason: str) -> None:
        """Nothing waits for the store any more."""
        flight, self._writing = self._writing, None
        if self._again is not None:
            self._again.cancel()
        self._need.whole = True
        self._patient = False
        self._switch(Storing.NONE, reason)
        if flight is not None:
            if flight.given:
                self._late = flight
            else:
                self.owed.add_before(flight.batch)
            self._let_go(flight)
        if self._late is None:
            self._idle.set()
            self._probe_later(reason)
        self.close()

    def _let_go(self, flight: Flight) -> None:
        self._remember_packets(flight)
        self._follower.unstored(flight, let_go=True)
        resolve(flight, durable=False)

    def carried(self, error: BaseException) -> Batch:
        """The engine was rebuilt: what nobody would say again, for its first batch."""
        carried = Batch(0)
        for flight in (self._writing, self._open):
            if flight is not None:
                extend(carried, flight.batch)
                resolve(flight, durable=False, error=error)
        carried.changes, carried.outgoing, carried.orders, carried.packets = [], [], [], no_marks()
        return carried

    def go_on(self, reason: str) -> None:
        """The engine could not be rebuilt: this one lives on without the store."""
        flight = self._writing
        self._failed = False
        self._store.reset()
        if flight is not None:
            self._need.reduce_again(flight)
        self._give_up(reason)

    # --- a store in need: up --------------------------------------------------------------------------------

    def begin_without(self, reason: str) -> None:
        """The store could be read and cannot be written from the start."""
        self._give_up(reason)

    def begin_reduced(self, reason: str) -> None:
        """The run before this one ended without room for readings: climb only when there is room."""
        self._need.whole = True
        self._patient = False
        self._switch(Storing.ALARMS, reason)
        self._probe_later(reason)

    def _switch(self, storing: Storing, reason: str) -> None:
        self.storing = storing
        self._follower.storing(storing, reason)

    def _probe_later(self, reason: str) -> None:
        if self._prober is not None:
            self._prober.cancel()
        wait_s = PROBE_S[min(self._probes, len(PROBE_S) - 1)]
        log.info("the store is tried again", extra={"in_s": wait_s, "reason": reason})
        self._probes += 1
        self._prober = self._loop.call_later(wait_s, self._probe)

    def _probe(self) -> None:
        """Try to climb one step."""
        if self._failed or self._late is not None:
            return
        if self._prober is not None:
            self._prober.cancel()
        self._prober = None
        if self.storing is Storing.NONE:
            self._late = self._need.all_owed()
            self._give(self._late)
        elif self.storing is Storing.ALARMS:
            if self._store.has_room():
                self._need.climbing = True
                self.close()
            else:
                self._prober = self._loop.call_later(PROBE_S[0], self._probe)
