"""The connection that writes, for one thread: a batch a transaction, and housekeeping between batches.

A typical batch (readings alone) writes one row of one table. Housekeeping is taken in small steps, each a
transaction or a checkpoint of its own, so that its caller decides before every step whether now is the time.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from time import perf_counter

from edge.store import codec, schema
from edge.store.batches import (
    FRAME,
    NOTHING_THERE,
    Standing,
    landed,
    read_standing,
    weight,
    without_steps_of,
    write_batch,
)
from edge.store.records import Batch, Committed
from edge.store.retention import Bounds, pages_in_use, remove_oldest

READINGS = "readings"
"""The position of the reader that forwards readings: batches up to it have left the building."""

HISTORY = "history"
"""The position of the local history: batches up to it are in it."""

_READER_WAIT_MS = 250
"""So long may a checkpoint of an overlong log wait for a reader."""

_MOST_PARTS = 64
_MERGE_RATIO = 4
"""The parts of the snapshot become one when there are so many, or so many times the bytes of the first."""


class Pressure(IntEnum):
    """What waits for the writer while it keeps house."""

    IDLE = 0
    BATCHES = 1
    ALARM = 2


@dataclass(slots=True)
class Figures:
    """What the writer has done since it was opened; written by its thread, read by anyone."""

    commits: int = 0
    commit_s: float = 0.0
    last_commit_s: float = 0.0
    checkpoints: int = 0
    checkpoint_s: float = 0.0
    removed: int = 0
    """Batches removed by the byte bound."""
    missed: int = 0
    """Readings removed by the byte bound before they were in the local history."""
    history_waited_for: bool = False
    """Above the byte bound, and the local history has not taken the oldest batch yet."""
    starved: bool = False
    """Above the byte bound, and all that is left is needed for recovery: a snapshot would help."""


class Writer:
    """Owns the database. Every method belongs to one thread. ``trace`` is told each statement before it."""

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        *,
        forwarding: bool,
        history: bool = False,
        trace: Callable[[str], object] | None = None,
    ) -> None:
        self.figures = Figures()
        self._trace = trace
        self._path = path
        self._bounds = bounds
        self._forwarding = forwarding
        self._history = history
        self._connection: sqlite3.Connection | None = None
        self._standing: Standing | None = None
        self._sure_number = 0
        """Of the last alarm change that is on disk for certain."""
        self._wal_bytes = 0
        """Written to the log since a checkpoint last got to its end; an estimate."""
        self._wal_stuck = 0
        """Bytes that the last checkpoint had to leave, because a reader still needed them."""
        self._unchecked = 0
        """Bytes written since the byte bound was last seen to hold."""
        self._merge_due = True

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, opened if it is not. Raises `StoreUnusable`."""
        if self._connection is None:
            self._connection = schema.open_writer(self._path)
            self._connection.execute(f"PRAGMA journal_size_limit = {self._bounds.wal // 2}")
            self._connection.set_trace_callback(self._trace)
            self._wal_bytes = self._wal_file_bytes()
            self._unchecked = self._bounds.slice
        return self._connection

    def open(self) -> int:
        """Open or make the database; gives the last batch's number. Raises `StoreUnusable`."""
        standing = self._where_it_stands()
        self._sure_number = standing.change_number
        return standing.seq

    def close(self) -> None:
        """Checkpoint and close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._standing = None

    def commit(self, batch: Batch) -> Committed:
        """Write ``batch`` whole, to the disk; or raise, and nothing of it is there."""
        started = perf_counter()
        standing = self._where_it_stands()
        if batch.seq <= standing.seq:
            raise ValueError(f"batch {batch.seq} cannot follow batch {standing.seq}")
        body = _body(batch)
        there, doubted = NOTHING_THERE, list[int]()
        with self._transaction() as connection:
            if batch.doubts:
                doubted, there = landed(connection, batch.doubts, self._sure_number)
                if batch.repeats in doubted:
                    body, batch = None, replace(batch, clock_sets=[])
                elif doubted and batch.inputs.of_the_clock:
                    batch = without_steps_of(connection, doubted, batch)
                    body = _body(batch)
            standing, changes = write_batch(connection, batch, body, standing, there)
        self._standing = standing
        self._sure_number = standing.change_number
        if batch.snapshot is not None:
            self._merge_due = True
            self._unchecked = self._bounds.slice  # what had to stay until now may go
        self._wrote(weight(batch, body))
        took = perf_counter() - started
        self.figures.commits += 1
        self.figures.commit_s += took
        self.figures.last_commit_s = took
        return Committed(batch.seq, changes, doubted)

    # --- housekeeping ---------------------------------------------------------------------------------------

    def keep_house(self, pressure: Pressure) -> bool:
        """Take the most urgent step that ``pressure`` allows; false if there was none to take.

        While an alarm waits, only what would otherwise break the byte bound is done.
        """
        wal = self._bounds.wal
        allowed = {Pressure.IDLE: wal // 8, Pressure.BATCHES: wal // 2, Pressure.ALARM: wal}[pressure]
        if self._wal_bytes > allowed and self._wal_bytes - self._wal_stuck > wal // 8:
            self._checkpoint(pressure)
            return True
        if self._unchecked > self._bounds.slice // 2 and not self._within_bounds(pressure):
            return self._remove_slice()
        if pressure is Pressure.IDLE and self._merge_due:
            self._merge_due = False
            return self._merge_parts()
        return False

    def _checkpoint(self, pressure: Pressure) -> None:
        """Carry the log into the file. The log is then used again from its beginning, unless a reader is at
        its end just then; one that has grown too large for that is waited for and cut off.
        """  # noqa: D205
        started = perf_counter()
        size, wal = self._wal_file_bytes(), self._bounds.wal
        wait_ms = _READER_WAIT_MS if size > wal * 3 // 4 else 0
        mode = "TRUNCATE" if wait_ms or (size > wal // 2 and pressure is Pressure.IDLE) else "PASSIVE"
        connection = self.connection
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        _busy, frames, done = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {int(schema.BUSY_TIMEOUT_S * 1000)}")
        self._wal_bytes = self._wal_stuck = max(0, frames - done) * FRAME
        self.figures.checkpoints += 1
        self.figures.checkpoint_s += perf_counter() - started

    def _within_bounds(self, pressure: Pressure) -> bool:
        used = pages_in_use(self.connection)
        if used <= self._bounds.pages:
            self._unchecked = 0
            self.figures.starved = self.figures.history_waited_for = False
            return True
        self.figures.history_waited_for = self._history and not self._oldest_is_history()
        if self.figures.history_waited_for and used <= self._bounds.waiting_pages:
            self._unchecked = 0
            return True
        return pressure is Pressure.ALARM and used <= self._bounds.most_pages

    def _oldest_is_history(self) -> bool:
        oldest: int = self.connection.execute("SELECT ifnull(min(seq), 0) FROM batches").fetchone()[0]
        return oldest <= self._where_it_stands().positions.get(HISTORY, 0)

    def _remove_slice(self) -> bool:
        standing = self._where_it_stands()
        with self._transaction() as connection:
            removed, missed = remove_oldest(
                connection,
                size=self._bounds.slice,
                snapshot_seq=standing.snapshot_seq,
                forwarded_seq=standing.positions.get(READINGS, 0) if self._forwarding else None,
                history_seq=standing.positions.get(HISTORY, 0) if self._history else None,
                at=standing.now,
            )
        self.figures.removed += removed
        self.figures.missed += missed
        self.figures.starved = removed == 0
        if removed == 0:
            self._unchecked = 0
        self._wal_bytes += 8 * FRAME
        return removed > 0

    def _merge_parts(self) -> bool:
        """Make one part of many, so that neither recovery nor the file pays for every snapshot there was."""
        sizes = self.connection.execute(
            "SELECT seq, length(body) FROM snapshot_parts ORDER BY seq"
        ).fetchall()
        if not sizes:
            return False
        (_, first), *later = sizes
        if len(sizes) < _MOST_PARTS and sum(size for _, size in later) < _MERGE_RATIO * first:
            return False
        parts = self.connection.execute("SELECT body FROM snapshot_parts ORDER BY seq").fetchall()
        merged = {address: state for (body,) in parts for address, state in codec.decode_devices(body)}
        body = codec.encode_devices(list(merged.items()))
        with self._transaction() as connection:
            connection.execute("DELETE FROM snapshot_parts")
            connection.execute("INSERT INTO snapshot_parts VALUES (?, ?)", (sizes[-1][0], body))
        self._wrote(len(body))
        return True

    def _wrote(self, size: int) -> None:
        self._wal_bytes += size
        self._unchecked += size

    def _wal_file_bytes(self) -> int:
        try:
            return Path(f"{self._path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    # --- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back(connection)
            if _read_only(
                error
            ):  # SQLite opened it so, and would stay with that when the disk is sound again
                with suppress(sqlite3.Error):
                    self.close()
            raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Leave nothing of the transaction; what SQLite could not undo, a new connection will not see."""
        self._standing = None
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()

    def _where_it_stands(self) -> Standing:
        if self._standing is None:
            self._standing = read_standing(self.connection)
        return self._standing


def _body(batch: Batch) -> bytes | None:
    return codec.encode_inputs(batch.inputs, batch.recent) if batch.inputs or batch.recent else None


def _read_only(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
