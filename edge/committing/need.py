"""What a batch holds while the store is in need (docs/adr/0008): what is owed first, then alarms; readings are counted.

One that is to store everything again holds its readings too, a snapshot of the whole engine, which stands for those
that are missing, and the gap that ends there. `edge.committing.ladder` decides when each of them is written.
"""

from edge.committing.owed import READINGS, Owed, extend
from edge.committing.snapshots import Snapshots
from edge.committing.storing import Flight
from edge.intake import Intake
from edge.store.inputs import Inputs
from edge.store.records import Batch

GAP_MS = 60_000
"""Readings that are not stored go on record at least this often, where gaps can be written."""

UNSTORED_SINCE = "unstored_since"
"""A position: since when (Unix ms) readings are acknowledged and not stored; 0 when they are."""
ALL_KNOWN = 1
"""Its value after a good end without room: the next start must be careful, and what was lost is on record."""


class Need:
    """What the store could not take. ``last_now``: the engine's time at the last batch on disk."""

    def __init__(self, intake: Intake, snapshots: Snapshots, last_now: int) -> None:
        self.owed = Owed()
        self.ending = False
        """The next batch ends the running gaps."""
        self.climbing = False
        """The next batch tries to store everything again."""
        self.whole = False
        """The next snapshot must hold every device."""
        self._intake = intake
        self._snapshots = snapshots
        self._last_now = last_now
        self._unstored_since = 0
        self._doubts: dict[int, int] = {}
        """Batches that failed, with the readings that were counted for them: one may be on disk after all."""

    @property
    def doubts(self) -> list[int]:
        """Batches that failed since the last that did not."""
        return list(self._doubts)

    def doubt(self, seq: int, readings: int = 0) -> None:
        """Batch ``seq`` failed; so many of its readings were counted as lost."""
        self._doubts[seq] = readings

    def written(self, batch: Batch, landed: list[int]) -> None:
        """``batch`` is on disk, and so are the batches ``landed`` that had failed."""
        for seq in landed:
            self.owed.readings.count -= min(self.owed.readings.count, self._doubts.get(seq, 0))
        self._doubts.clear()
        self._last_now = batch.now or self._last_now  # not the greater: the clock may have been set back

    def over(self) -> None:
        """The store has taken everything."""
        self.whole = False
        self._unstored_since = 0

    def prepare(self, flight: Flight) -> None:
        """Put what is owed first. Readings stay out, unless this batch is to store everything again."""
        own = flight.batch
        batch = self._fly(flight)
        fresh = {change.alarm.id for change in own.changes}
        batch.outgoing = [row for row in batch.outgoing if row.subject not in fresh]
        if self.climbing:
            self.climbing = False
            inputs, batch.inputs = batch.inputs, Inputs()
            extend(batch, own)
            inputs.join(own.inputs)
            batch.inputs, batch.quarantined = inputs, own.quarantined
            batch.recent = self._intake.recent.held()  # what was judged and not stored may be said again
            self._snapshots.add(batch, whole=self.whole)
            self._add_gaps(flight, 0)
            return
        self.owed.reduce(own)
        extend(batch, own)
        # Replay must not run deadlines over a time of which it has no readings.
        now, batch.now = batch.now, self._standing_still(batch)
        if not self._unstored_since:
            self._unstored_since = batch.positions[UNSTORED_SINCE] = now
        if self.ending:
            self.ending = False
            self._add_gaps(flight, ALL_KNOWN)
        elif now - self._unstored_since >= GAP_MS and self.owed.readings.count:
            self._add_gaps(flight, now)

    def all_owed(self) -> Flight:
        """A batch of nothing else."""
        flight = Flight(Batch(0))
        self._fly(flight)
        self._mark(flight.batch, self._intake.state.now)
        return flight

    def reduce_again(self, flight: Flight) -> None:
        """After a failure: what was in it as far as it may be tried once more."""
        batch = flight.batch
        before = self.owed.readings.count
        for gap in flight.gaps:
            (self.owed.readings if gap.lane == READINGS else self.owed.alarms).again(gap)
            batch.gaps.remove(gap)
        flight.gaps = []
        since = batch.inputs.first_at if batch.inputs else self._intake.state.now
        self.owed.reduce(batch)
        self.doubt(batch.seq, self.owed.readings.count - before)
        self._mark(batch, since)

    def owe(self, flight: Flight) -> None:
        """The store has not taken it, and nothing waits for that any more."""
        batch = flight.batch
        batch.outgoing = [row for row in batch.outgoing if row.id not in flight.repeats]
        self.owed.add_before(batch)

    def _mark(self, batch: Batch, since: int) -> None:
        batch.now = self._standing_still(batch)
        self._unstored_since = self._unstored_since or since
        batch.positions[UNSTORED_SINCE] = self._unstored_since

    def _standing_still(self, batch: Batch) -> int:
        """The engine's time at the last batch on disk, by the clock as it is after ``batch``."""
        return self._last_now + sum(each.by_ms for each in batch.clock_sets)

    def _fly(self, flight: Flight) -> Batch:
        """Everything owed, with a publication for each alarm that stands, as the batch of ``flight``."""
        flight.batch = batch = self.owed.take()
        flight.told.update(row.id for row in batch.outgoing)
        newest = {change.alarm.id: change.alarm for change in batch.changes}
        again = [self._intake.publication(each) for each in newest.values() if each.on_board]
        flight.repeats.update(row.id for row in again)
        batch.outgoing += again
        return batch

    def _add_gaps(self, flight: Flight, unstored_since: int) -> None:
        now = self._intake.state.now
        flight.gaps = [*self.owed.readings.end(now), *self.owed.alarms.end(now)]
        flight.batch.gaps += flight.gaps
        flight.batch.positions[UNSTORED_SINCE] = self._unstored_since = unstored_since
