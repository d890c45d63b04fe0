"""Group commit: when a batch closes, and what follows when it is on disk.

One batch is open, at most one is being written; the event loop goes on reading meanwhile. A batch closes at
once for an event or an alarm change, else after ``commit_ms``, after 2,000 messages or half the smaller
Receive Maximum. Acknowledgements, publications and news leave only after the commit, in order.

If a commit fails, that batch and the open one are discarded: nothing of them was acknowledged, so the broker
brings their messages again, and the engine is rebuilt from the store as after a crash.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devices.topics import Lane
from edge.intake import Intake
from edge.store.records import Batch, Committed, Snapshot
from rules.state import freeze

log = logging.getLogger("anlin.commits")

MOST_MESSAGES = 2_000
SNAPSHOT_READINGS = 100_000
SNAPSHOT_MS = 3_600_000
"""A snapshot after so many readings or so much time, whichever is first (docs/adr/0003)."""


class Store(Protocol):
    """Where batches go."""

    def commit(self, batch: Batch) -> "asyncio.Future[Committed]":
        """Write one batch in one durable transaction. Batches are written in the order of the calls; after
        a failure every later one fails too, until `reset`.
        """  # noqa: D205


@dataclass(slots=True)
class _Flight:
    """What must be done once a batch is on disk."""

    batch: Batch
    acknowledgements: dict[tuple[Lane, int], list[int]] = field(default_factory=dict)
    taken: Counter[Lane] = field(default_factory=Counter)
    forgotten: set[Lane] = field(default_factory=set)
    """Lanes whose session has ended since."""

    @property
    def empty(self) -> bool:
        """No commit will come of it."""
        return self.batch.empty and not self.acknowledgements


class Commits:
    """Owns the open batch of ``intake``.

    ``on_committed(batch, committed, acknowledgements)`` and ``on_failed(error)`` are called in the event loop.
    """

    def __init__(
        self,
        store: Store,
        intake: Intake,
        *,
        first_seq: int,
        commit_ms: int,
        on_committed: Callable[[Batch, Committed, dict[tuple[Lane, int], list[int]]], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.limit = MOST_MESSAGES
        self._store = store
        self._intake = intake
        self._seq = first_seq
        self._commit_s = commit_ms / 1000
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._open = _Flight(Batch(first_seq))
        self._writing: _Flight | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._since_snapshot = 0
        self._snapshot_at = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed = False
        self.writing_since: float | None = None
        """When the batch that is being written was given to the store (the event loop's seconds)."""
        intake.batch = self._open.batch

    def held(self, lane: Lane) -> int:
        """Messages of a lane that wait for a commit, also those at QoS 0."""
        flights = [each for each in (self._open, self._writing) if each is not None and not each.empty]
        return sum(each.taken[lane] for each in flights)

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
        if self._writing is not None:
            self._writing.forgotten.add(lane)
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

    async def drain(self) -> None:
        """Close the open batch and wait until everything is on disk, or a commit has failed."""
        self.close()
        await self._idle.wait()

    def shut(self) -> None:
        """Give nothing more to the store."""
        self._failed = True
        if self._timer is not None:
            self._timer.cancel()

    def _submit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        flight = self._open
        batch = flight.batch
        if self._failed or flight.empty:
            flight.taken.clear()
            return
        batch.now = max(batch.now, self._intake.state.now)
        self._snapshot_if_due(batch)
        self._intake.urgent = False
        self._seq += 1
        self._open = _Flight(Batch(self._seq))
        self._intake.batch = self._open.batch
        self._writing = flight
        self.writing_since = self._loop.time()
        self._idle.clear()
        self._store.commit(batch).add_done_callback(self._done)

    def _snapshot_if_due(self, batch: Batch) -> None:
        self._since_snapshot += len(batch.inputs)
        if not self._snapshot_at:
            self._snapshot_at = batch.now
        if batch.changes or not self._since_snapshot:
            return  # an alarm does not wait for a snapshot
        if self._since_snapshot >= SNAPSHOT_READINGS or batch.now - self._snapshot_at >= SNAPSHOT_MS:
            header, devices = freeze(self._intake.state)
            batch.snapshot = Snapshot(self._intake.engine.rules.hash, header, devices)
            self._since_snapshot, self._snapshot_at = 0, batch.now

    def snapshot_soon(self) -> None:
        """Let the next batch without an alarm carry a snapshot."""
        self._since_snapshot = SNAPSHOT_READINGS

    def _done(self, future: "asyncio.Future[Committed]") -> None:
        flight, self._writing = self._writing, None
        self.writing_since = None
        assert flight is not None  # noqa: S101 - one callback per submission
        error = future.exception()
        if error is not None:
            self._failed = True
            self._idle.set()
            self._on_failed(error)
            return
        for lane, marks in flight.batch.packets.items():
            if lane not in flight.forgotten:
                self._intake.packets[lane].committed(marks)
        self._on_committed(flight.batch, future.result(), flight.acknowledgements)
        if self._due:
            self._submit()
        if self._writing is None:
            self._idle.set()
