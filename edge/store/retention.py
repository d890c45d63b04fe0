"""The byte bound: the journal's file and its write-ahead log together stay within ``journal_max_bytes``.

The oldest batches go first, forwarded or not; unforwarded readings leave a gap row in the same transaction.
Those that the local history has not taken yet may stay until half of the room that an alarm may need is used, which
gives it some seconds; then they go, too, and are counted.
Batches after the last snapshot are needed for recovery and stay; alarms and their history stay always, gaps up to a
number of their own (`edge.store.batches.GAPS`).

Freed pages are used again before the file grows, so its size follows the pages in use. What is bounded is
therefore the pages in use, at a share that leaves the rest to the write-ahead log and to what a few commits
add before the next slice is removed.
"""

import sqlite3
from dataclasses import dataclass

from edge.store.records import GapReason
from edge.store.schema import PAGE_SIZE

LANE = "readings"

_LARGEST_SHARE = 32 * 1024 * 1024
_SLICE_ROWS = 1_000
_SLICE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """How the bytes are divided."""

    max_bytes: int

    @property
    def wal(self) -> int:
        """The write-ahead log, at most."""
        return min(_LARGEST_SHARE, self.max_bytes // 8)

    @property
    def pages(self) -> int:
        """Pages in use from which the oldest batches are removed."""
        return (self.max_bytes - 2 * self.wal) // PAGE_SIZE

    @property
    def most_pages(self) -> int:
        """Pages in use from which they are removed even while an alarm waits."""
        return self.pages + self.wal // 2 // PAGE_SIZE

    @property
    def waiting_pages(self) -> int:
        """Pages in use from which they are removed although the local history has not taken them."""
        return self.pages + self.wal // 4 // PAGE_SIZE

    @property
    def slice(self) -> int:
        """Bytes removed in one transaction."""
        return min(_SLICE_BYTES, self.max_bytes // 32)


def pages_in_use(connection: sqlite3.Connection) -> int:
    """Pages of the file that hold something."""
    count: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return count - free


def remove_oldest(
    connection: sqlite3.Connection,
    *,
    size: int,
    snapshot_seq: int,
    forwarded_seq: int | None,
    history_seq: int | None,
    at: int,
) -> tuple[int, int]:
    """Remove the oldest batches, about ``size`` bytes of them, in the transaction that the caller has begun.

    ``forwarded_seq``: readings after it have not left the building; None where nothing is to be forwarded.
    ``history_seq``: readings after it are not in the local history; None where there is none.
    ``at``: the time (Unix ms) that a gap row is given. Gives the number of batches removed: 0 when all that
    is left is needed; and how many readings were in them that the history has missed.
    """
    oldest = connection.execute(
        "SELECT seq, first_at, last_at, readings,"
        " 40 + ifnull(length(packets), 0) + ifnull(length(body), 0)"
        " FROM batches WHERE seq <= ? ORDER BY seq LIMIT ?",
        (snapshot_seq, _SLICE_ROWS),
    ).fetchall()
    removed = missed = 0
    lost: list[tuple[int, int, int]] = []
    last_seq = 0
    for seq, first_at, last_at, readings, length in oldest:
        if removed and size <= 0:
            break
        size -= length
        removed += 1
        last_seq = seq
        if readings and forwarded_seq is not None and seq > forwarded_seq:
            lost.append((readings, first_at, last_at))
        if history_seq is not None and seq > history_seq:
            missed += readings
    if lost:
        counts, firsts, lasts = zip(*lost, strict=True)
        connection.execute(
            "INSERT INTO gaps (at, lane, count, from_ms, to_ms, reason) VALUES (?, ?, ?, ?, ?, ?)",
            (at, LANE, sum(counts), min(firsts), max(lasts), GapReason.JOURNAL_FULL),
        )
    if removed:
        connection.execute("DELETE FROM batches WHERE seq <= ?", (last_seq,))
    return removed, missed
