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

from edge.store import damage, recovery, salvage, schema
from edge.store.ballast import SIZE, Ballast
from edge.store.errors import (
    CommitFailed,
    JournalClosed,
    JournalFull,
    StoreError,
    StoreUnusable,
    StoreUnwritable,
)
from edge.store.lock import DirectoryLock
from edge.store.reader import JournalReader
from edge.store.records import Batch, Committed, KeptRules, RecentId, Recovered, ReplayBatch
from edge.store.retention import Bounds
from edge.store.writer import Figures, Pressure, Writer

MOST_WAITING = 64
"""Batches that may wait for the disk; the node keeps its batch open while there are so many."""

QUIET_S = 0.02
"""So long must nothing come before the writer keeps house: a burst is not interrupted."""

CLOSE_S = 5.0
"""So long is the writer waited for at the end; a disk that hangs must not hold the process."""

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
    so one that the byte bound removes before leaves a gap. ``history``: readings go to the local history, which the
    byte bound gives some time. ``trace``: told each SQL statement before it
    runs, in the writer's thread, for tests and for those who look for a fault. ``ballast_bytes``: room kept for
    alarms, see `edge.store.ballast`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        forwarding: bool,
        history: bool = False,
        trace: Callable[[str], object] | None = None,
        ballast_bytes: int = SIZE,
    ) -> None:
        self.path = directory / schema.FILE
        self.unwritable: str | None = None
        """Why the database that is there could not be opened for writing at the start."""
        self.damage: str | None = None
        """Why the database that is there cannot be opened at all: `mend` it first."""
        self.salvaged: list[salvage.Salvaged] = []
        """What was done about damage, since the start."""
        self._mending: asyncio.Future[None] | None = None
        self._mend_at = 0
        self._ballast = Ballast(directory, ballast_bytes)
        self._keep_ballast = True
        self._ballast_due = True
        self.failures = 0
        """Batches that were not committed."""
        self.housekeeping_failures = 0
        self._lock = DirectoryLock(directory)
        self._writer = Writer(
            self.path, Bounds(max_bytes), forwarding=forwarding, history=history, trace=trace
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._open = False
        self._epoch = 0

    async def open(self) -> None:
        """Lock the directory, open or make the database, start the writer.

        Raises `StoreUnusable` (and its `StoreLocked`) with the remedy. A database that is there and cannot be
        written now is no reason not to start: see `unwritable`.
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
            await asyncio.to_thread(self._thread.join, CLOSE_S)
            if self._thread.is_alive():
                _log.error(
                    "the disk does not answer; the journal is left as it is, the next start recovers it"
                )
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

    @property
    def ballast(self) -> Ballast:
        """The room that is kept for alarms."""
        return self._ballast

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
        """After a failed commit: the engine has taken notice, batches given from now on count."""
        self._epoch += 1

    async def mend(self, now: int) -> None:
        """Begin the journal anew with all that can be read of it (`edge.store.salvage`), at ``now`` (Unix ms).

        Before the first commit, or between a failed one and the next. Raises `StoreError`, `OSError`.
        """
        assert self._loop is not None, "mend before open"  # noqa: S101 - a caller's mistake
        mended: asyncio.Future[None] = self._loop.create_future()
        with self._wake:
            self._mending, self._mend_at = mended, now
            self._wake.notify()
        await mended
        self.damage = None

    def keep_ballast(self, *, keep: bool) -> None:
        """Give up the room that is kept for alarms before the next batch, or make it again in a quiet moment."""
        with self._wake:
            self._keep_ballast = keep
            self._ballast_due = True
            self._wake.notify()

    def has_room(self) -> bool:
        """Whether there is room for readings: the ballast, if it was given up, and a margin."""
        return self._ballast.room()

    # --- recovery: before the first commit, or between a failed one and `reset` -----------------------------

    def recover(self) -> Recovered:
        """What is known without replay. Blocks; raises `StoreError`."""
        return recovery.recover(self.path)

    def replay(self, after_seq: int) -> Iterator[ReplayBatch]:
        """The batches after ``after_seq``, in order, read slice by slice. Blocks; raises `StoreError`."""
        return recovery.replay(self.path, after_seq)

    def seq_before(self, moment: int) -> int:
        """The newest batch of a time before ``moment`` (Unix ms), 0 if there is none. Blocks."""
        return recovery.seq_before(self.path, moment)

    def rules(self) -> KeptRules | None:
        """The rules in force as they are kept; None in a journal that keeps none. Blocks; raises `StoreError`."""
        with JournalReader(self.path) as reader:
            return reader.rules()

    def recent_ids(self, since: int) -> Iterator[RecentId]:
        """The message ids that arrived at or after ``since`` (Unix ms), oldest first. Blocks."""
        return recovery.recent_ids(self.path, since)

    # --- the writer's thread --------------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            self._open_writer()
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

    def _open_writer(self) -> None:
        try:
            salvage.finish(self.path)
            self.damage = damage.look(self.path)
            if self.damage is None and (torn := salvage.torn_log(self.path)) is not None:
                self.salvaged.append(torn)
        except OSError:
            _log.exception("the journal could not be looked through for damage")
        if self.damage is not None:
            return
        try:
            self._writer.open()
        except StoreUnwritable as error:
            if not self.path.exists() or not self.path.stat().st_size:
                raise
            if not self._ballast.room():
                self._ballast.release()
            try:
                self._writer.open()
            except StoreUnwritable:
                self.unwritable = str(error)
        except StoreUnusable as error:
            if not damage.is_damage(error):
                raise
            self.damage = str(error)

    def _mend(self, mended: asyncio.Future[None]) -> None:
        self._mending = None
        try:
            self._writer.close()
            self.salvaged.append(salvage.salvage(self.path, self._mend_at))
            self._writer.open()
        except Exception as error:  # noqa: BLE001 - the thread's top; whoever waits is told
            self._tell(mended, error)
        else:
            self._tell(mended, None)

    def _tend_ballast(self) -> None:
        self._ballast_due = False
        if not self._keep_ballast:
            self._ballast.release()
        elif self.unwritable is None:
            self._ballast.make()

    def _serve(self) -> None:
        quiet: float | None = 0.0
        failed: CommitFailed | None = None
        failed_epoch = -1
        while True:
            job = self._next(quiet)
            if job is None and self._mending is not None:
                self._mend(self._mending)
                continue
            if job is None:
                if not self._open:
                    return
                if self._ballast_due:
                    self._tend_ballast()
                quiet = 0.0 if self._keep_house(Pressure.IDLE) else None
                continue
            if job.epoch == failed_epoch and failed is not None:
                error = CommitFailed(job.batch.seq, failed.reason, because_of=failed.seq)
                self.failures += 1
                self._settle(job, error)
            else:
                if self._ballast_due and not self._keep_ballast:
                    self._tend_ballast()
                outcome = self._commit(job.batch)
                if isinstance(outcome, CommitFailed):
                    failed, failed_epoch = outcome, job.epoch
                self._settle(job, outcome)
            self._keep_house(max(self._pressure(), Pressure.BATCHES))  # it may not be quiet for long
            quiet = QUIET_S

    def _next(self, quiet: float | None) -> _Job | None:
        """The next job, left in the queue until it is settled; None after ``quiet`` seconds without one."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._jobs or not self._open or self._ballast_due or self._mending, quiet
            )
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
