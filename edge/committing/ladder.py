"""What is done about a store that fails or does not answer: the ladder of docs/adr/0008.

`Storing.ALL`, `ALARMS` (no readings), `NONE` (nothing; what was judged is acknowledged and alarms are told at once as
not durable). Down it goes step by step, up again only by commits that succeeded: first everything that is owed, then
a snapshot of the whole engine. A single failure is none of its steps: it is answered by a rebuild of the engine, but
with an alarm in it a batch is tried once more as it is, for an alarm cannot wait for that.
"""

import asyncio
import logging
from typing import Protocol

from edge.committing.need import Need
from edge.committing.storing import Flight, Follower, Store, Storing, is_full
from edge.store.damage import is_damage
from edge.store.errors import StoreError
from edge.store.records import Committed

log = logging.getLogger("anlin.commits")

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


class Batches(Protocol):
    """The batches that it is about: `edge.committing.commits.Commits`."""

    open: Flight
    writing: Flight | None
    since: float
    """When it was first given to the store."""
    idle: asyncio.Event
    failed: bool
    """The engine is about to be rebuilt; nothing goes to the store any more."""

    def give(self, flight: Flight) -> None:
        """To the store."""

    def close(self) -> None:
        """Write the open batch, now or as soon as the one before it is on disk."""

    def let_go(self, flight: Flight) -> None:
        """Nothing waits for it any more."""

    def fail(self, error: BaseException) -> None:
        """Have the engine rebuilt."""


class Ladder:
    """One for a life of the engine, about the batches of ``batches``; ``storing`` is where on it the store stands.

    ``patient``: a single failure is answered by a rebuild; not so in the engine that was just rebuilt for one.
    """

    def __init__(
        self, batches: Batches, store: Store, follower: Follower, need: Need, *, patient: bool
    ) -> None:
        self.storing = Storing.ALL
        self.late: Flight | None = None
        """Given to the store, and nothing waits for it."""
        self._batches = batches
        self._store = store
        self._follower = follower
        self._need = need
        self._loop = asyncio.get_running_loop()
        self._patient = patient
        self._patient_from = 0.0
        self._refusal = ""
        self._watcher: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._prober: asyncio.Handle | None = None
        self._probes = 0

    def shut(self) -> None:
        """Try nothing any more."""
        for timer in (self._watcher, self._again, self._prober):
            if timer is not None:
                timer.cancel()

    # --- down -----------------------------------------------------------------------------------------------

    def refused(self, flight: Flight, error: BaseException) -> None:
        """A commit has failed."""
        self._refusal = str(error)
        told = bool(flight.told or self._batches.open.told)
        full = is_full(error) or not self._store.has_room()
        alarms = bool(flight.batch.changes or self._batches.open.batch.changes)
        damaged = isinstance(error, StoreError) and is_damage(error)
        patient = self._patient or damaged or flight.succession
        if self.storing is Storing.ALL and patient and not full and not told:
            if alarms and self._patient and not damaged:  # to be brought again takes the broker a second
                self._patient = False
                self._store.reset()
                self._need.doubt(flight.batch.seq)
                flight.batch.repeats = flight.batch.seq
                self._batches.give(flight)
                return
            self._batches.fail(error)
            return
        self._store.reset()
        if full:
            self._store.keep_ballast(keep=False)
        self._need.whole = True
        climbed = flight.batch.snapshot is not None and self.storing is Storing.ALARMS
        self._need.reduce_again(flight)
        if flight is self.late:
            self.late = None
            self._need.owe(flight)
            self._probe_later(str(error))
            self._batches.idle.set()
            return
        if self.storing is Storing.ALL:
            self._switch(Storing.ALARMS, str(error))
            self._patient = False
            climbed = True
        if climbed:
            self._batches.since = self._loop.time()
            self._probe_later(str(error))
            self._batches.give(flight)
        elif self._loop.time() - self._batches.since >= HUNG_S:
            self._give_up(str(error))
        else:
            self._again = self._loop.call_later(AGAIN_S, self._batches.give, flight)

    def watch(self) -> None:
        """A batch is given to the store: see to it that nobody waits for it too long."""
        if self._watcher is None:
            self._watcher = self._loop.call_later(TELL_S, self._look)

    def _look(self) -> None:
        """How long does the store take? Nobody is told late of an alarm for its sake."""
        self._watcher = None
        if self._batches.writing is None or self._batches.failed:
            return
        waited_s = self._loop.time() - self._batches.since
        if waited_s >= HUNG_S:
            silent = f"the store has not answered for {waited_s:.1f} s"
            self._give_up(silent if self._batches.writing.given else self._refusal)
            return
        if waited_s >= TELL_S:
            for flight in (self._batches.writing, self._batches.open):
                if len(flight.told) < len(flight.batch.outgoing):
                    self._follower.unstored(flight, let_go=False)
        self._watcher = self._loop.call_later(max(AGAIN_S / 2, TELL_S - waited_s), self._look)

    def _give_up(self, reason: str) -> None:
        """Nothing waits for the store any more."""
        flight, self._batches.writing = self._batches.writing, None
        if self._again is not None:
            self._again.cancel()
        self._need.whole = True
        self._patient = False
        self._switch(Storing.NONE, reason)
        if flight is not None:
            if flight.given:
                self.late = flight
            else:
                self._need.owe(flight)
            self._batches.let_go(flight)
        if self.late is None:
            self._batches.idle.set()
            self._probe_later(reason)
        self._batches.close()

    def begin_without(self, reason: str) -> None:
        """The store could be read and cannot be written from the start."""
        self._give_up(reason)

    def go_on(self, reason: str) -> None:
        """The engine could not be rebuilt: it lives on without the store."""
        self._store.reset()
        if self._batches.writing is not None:
            self._need.reduce_again(self._batches.writing)
        self._give_up(reason)

    # --- up -------------------------------------------------------------------------------------------------

    def begin_reduced(self, reason: str) -> None:
        """The run before this one ended without room for readings: climb only when there is room."""
        self._need.whole = True
        self._patient = False
        self._switch(Storing.ALARMS, reason)
        self._probe_later(reason)

    def late_landed(self, flight: Flight, committed: Committed) -> None:
        """What nothing waited for is on disk after all."""
        self.late = None
        self._follower.committed(flight, committed, late=True)
        if self.storing is Storing.NONE:
            self._switch(Storing.ALARMS, "the store takes alarms again")
            self._prober = self._loop.call_soon(self.probe)

    def landed(self, flight: Flight) -> None:
        """A batch is on disk, or was not worth writing."""
        if self.storing is Storing.ALL:
            if not self._patient and self._loop.time() >= self._patient_from:
                self._patient, self._probes = True, 0
        elif flight.batch.snapshot is not None:
            self._need.over()
            self._patient_from = self._loop.time() + STEADY_S
            self._store.keep_ballast(keep=True)
            self._switch(Storing.ALL, "the store takes everything again")

    def probe(self) -> None:
        """Try to climb one step."""
        if self._batches.failed or self.late is not None:
            return
        if self._prober is not None:
            self._prober.cancel()
        self._prober = None
        if self.storing is Storing.NONE:
            self.late = self._need.all_owed()
            self._batches.give(self.late)
        elif self.storing is Storing.ALARMS:
            if self._store.has_room():
                self._need.climbing = True
                self._batches.close()
            else:
                self._prober = self._loop.call_later(PROBE_S[0], self.probe)

    def _probe_later(self, reason: str) -> None:
        if self._prober is not None:
            self._prober.cancel()
        wait_s = PROBE_S[min(self._probes, len(PROBE_S) - 1)]
        log.info("the store is tried again", extra={"in_s": wait_s, "reason": reason})
        self._probes += 1
        self._prober = self._loop.call_later(wait_s, self.probe)

    def _switch(self, storing: Storing, reason: str) -> None:
        self.storing = storing
        self._follower.storing(storing, reason)
