"""The node's side of the store: batches in, in order, each durable or failed; and what a restart needs.

`Journal` belongs to the event loop; the database belongs to a thread of its own, the only one that writes.

Promises: a batch whose future is done is on the disk, whole. Batches are committed in the order in which
they were given. When one fails, every one that was given after it fails too, until `reset` says that the
engine has been rebuilt from the store. Housekeeping waits for quiet moments, never inside a commit and
(short of breaking the byte bound) never before an alarm's. Must not: read a clock, drop a batch.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from edge.store import recovery, schema
from edge.store.errors import CommitFailed, JournalClosed, JournalFull, StoreError, StoreUnusable
from edge.store.lock import DirectoryLock
from edge.store.records import Batch, Committed, RecentId, Recovered, ReplayBatch
from edge.store.retention import Bounds
from edge.store.writer import Figures, Pressure, Writer

MOST_WAITING = 64
"""Batches that may wait for the disk; the node keeps its batch open while there are so many."""

QUIET_S = 0.02
"""So long must nothing come before the writer keeps house: a burst is not interrupted."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    batch: Batch
    done: asyncio.Future[Committed]
    epoch: int
    """Of the engine that made it; `Journal.reset` begins the next."""


class Journal:
    """The journal in ``directory``, locked from `open` to `close`.

    ``max_bytes``: of the file and its write-ahead log together. ``forwarding``: readings go to a cloud store,
    so one that the byte bound removes before leaves a gap. ``trace``: told each SQL statement before it
    runs, in the writer's thread, for tests and for those who look for a fault.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        forwarding: bool,
        trace: Callable[[str], object] | None = None,
    ) -> None:
        self.path = directory / schema.FILE
        self.failures = 0
        """Batches that were not committed."""
        self.housekeeping_failures = 0
        self._lock = DirectoryLock(directory)
        self._writer = Writer(self.path, Bounds(max_bytes), forwarding=forwarding, trace=trace)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._open = False
        self._epoch = 0

    async def open(self) -> None:
        """Lock the directory, open or make the database, start the writer.

        Raises `StoreUnusable` (and its `StoreLocked`) with the remedy.
        """
        self._loop = asyncio.get_running_loop()
        self._lock.acquire()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="journal", daemon=True)
        self._open = True
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Commit what waits, checkpoint, close, unlock."""
        with self._wake:
            self._open = False
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._lock.release()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- committing -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Batches that wait for the disk, the one being written among them."""
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """The writer's thread runs; without it nothing is ever written."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def figures(self) -> Figures:
        """What the writer has done."""
        return self._writer.figures

    def commit(self, batch: Batch) -> asyncio.Future[Committed]:
        """Give a batch to the writer; do not change it any more.

        The future's result says that it is on the disk; its error is `CommitFailed`. Raises `JournalFull`
        above `MOST_WAITING` batches and `JournalClosed`; the batch was not taken then.
        """
        assert self._loop is not None, "commit before open"  # noqa: S101 - a caller's mistake
        job = _Job(batch, self._loop.create_future(), self._epoch)
        with self._wake:
            if not self._open:
                raise JournalClosed(f"batch {batch.seq}: the journal is closed")
            if len(self._jobs) >= MOST_WAITING:
                raise JournalFull(f"batch {batch.seq}: {MOST_WAITING} batches wait for the disk")
            self._jobs.append(job)
            self._wake.notify()
        return job.done

    def reset(self) -> None:
        """After a failed commit: the engine is rebuilt from the store, batches given from now on count."""
        self._epoch += 1

    # --- recovery: before the first commit, or between a failed one and `reset` -----------------------------

    def recover(self) -> Recovered:
        """What is known without replay. Blocks; raises `StoreError`."""
        return recovery.recover(self.path)

    def replay(self, after_seq: int) -> Iterator[ReplayBatch]:
        """The batches after ``after_seq``, in order, read slice by slice. Blocks; raises `StoreError`."""
        return recovery.replay(self.path, after_seq)

    def recent_ids(self, since: int) -> Iterator[RecentId]:
        """The message ids that arrived at or after ``since`` (Unix ms), oldest first. Blocks."""
        return recovery.recent_ids(self.path, since)

    # --- the writer's thread --------------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            self._writer.open()
        except (StoreError, sqlite3.Error) as error:
            unusable = error if isinstance(error, StoreError) else StoreUnusable(f"{self.path}: {error}")
            self._tell(opened, unusable)
            return
        self._tell(opened, None)
        self._serve()
        try:
            self._writer.close()
        except sqlite3.Error:
            _log.exception("the journal was not closed cleanly; the next start recovers it")

    def _serve(self) -> None:
        quiet: float | None = 0.0
        failed: CommitFailed | None = None
        failed_epoch = -1
        while True:
            job = self._next(quiet)
            if job is None:
                if not self._open:
                    return
                quiet = 0.0 if self._keep_house(Pressure.IDLE) else None
                continue
            if job.epoch == failed_epoch and failed is not None:
                error = CommitFailed(job.batch.seq, failed.reason, because_of=failed.seq)
                self.failures += 1
                self._settle(job, error)
            else:
                outcome = self._commit(job.batch)
                if isinstance(outcome, CommitFailed):
                    failed, failed_epoch = outcome, job.epoch
                self._settle(job, outcome)
            self._keep_house(max(self._pressure(), Pressure.BATCHES))  # it may not be quiet for long
            quiet = QUIET_S

    def _next(self, quiet: float | None) -> _Job | None:
        """The next job, left in the queue until it is settled; None after ``quiet`` seconds without one."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or not self._open, quiet)
            return self._jobs[0] if self._jobs else None

    def _pressure(self) -> Pressure:
        with self._wake:
            if not self._jobs:
                return Pressure.IDLE
            urgent = any(job.batch.urgent for job in self._jobs)
        return Pressure.ALARM if urgent else Pressure.BATCHES

    def _commit(self, batch: Batch) -> Committed | CommitFailed:
        try:
            return self._writer.commit(batch)
        except Exception as error:  # noqa: BLE001 - the thread's top: whatever it is, the batch has failed
            self.failures += 1
            _log.exception("batch %d was not committed", batch.seq)
            failed = CommitFailed(batch.seq, f"{type(error).__name__}: {error}")
            failed.__cause__ = error
            return failed

    def _keep_house(self, pressure: Pressure) -> bool:
        try:
            return self._writer.keep_house(pressure)
        except Exception:  # noqa: BLE001 - the thread's top: batches matter more than housekeeping
            self.housekeeping_failures += 1
            _log.exception("the journal's housekeeping failed; it is tried again later")
            return False

    def _settle(self, job: _Job, outcome: Committed | CommitFailed) -> None:
        with self._wake:
            self._jobs.popleft()
        self._tell(job.done, outcome)

    def _tell(self, future: asyncio.Future[_T], outcome: _T | Exception) -> None:
        assert self._loop is not None  # noqa: S101 - set by open, which started this thread
        try:
            self._loop.call_soon_threadsafe(_resolve, future, outcome)
        except RuntimeError:  # the loop has ended; nobody listens any more
            _log.warning("the journal's answer came after the end of the event loop")


def _resolve(future: asyncio.Future[_T], outcome: _T | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
