"""From a damaged database into a new one, row by row: what can still be read, and what is told of the rest.

Carried over is what a restart, the cloud bridge and the local history need: alarms, orders, the outbox, positions,
losses, the snapshot, and the batches after the snapshot or not yet forwarded or taken, at most `MOST_READINGS` of
them. What is missing is a gap in the new database.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.store import codec, schema
from edge.store.errors import JournalDamaged, StoreError
from edge.store.reader import LAST_SEQ
from edge.store.records import Gap, GapReason, OrderStatus, OutgoingKind
from rules.state import thaw

MOST_READINGS = 1_000_000
"""Carried over at most, newest first: about ten seconds on a small computer. The rest is told as a gap and
lies in the damaged file."""

_READERS = "SELECT seq FROM positions WHERE name IN ('readings', 'history')"
"""Positions that are numbers of batches; others are times, or the computer's boot."""

_MAYBE = (int, type(None))
_TYPES: Mapping[str, Sequence[type | tuple[type, ...]]] = {
    "alarms": (str, str, int, int, int, bytes),
    "alarm_changes": (int, str, int, str, int, bytes),
    "outbox": (int, str, str, str, bytes, int, _MAYBE),
    "orders": (str, str, str, str, bytes, int, int, str, (str, type(None)), int),
    "order_givers": (str, str),
    "positions": (str, int),
    "quarantine": (int, int, str, str, str, int, str, bytes),
    "gaps": (int, int, str, int, int, int, str),
    "dead_letters": (int, int, str, str, int, str),
    "rule_sets": (int, str, int, bytes),
}
"""Tables that are carried over row by row; their key is the first column."""

_BATCH: Sequence[type | tuple[type, ...]] = (
    int,
    int,
    int,
    int,
    int,
    int,
    (bytes, type(None)),
    (bytes, type(None)),
)


def carry_over(damaged: Path, new: sqlite3.Connection, at: int) -> tuple[Gap, ...]:
    """Everything that can be read of ``damaged``; what is missing. ``at``: the time (Unix ms) that gaps are given."""
    carry = _Carry(new, at)
    with suppress(StoreError, *schema.FAULTS), closing(_open_damaged(damaged)) as old:
        carry.everything(old)
    return carry.told()


@dataclass(slots=True)
class _Carry:
    """From the damaged database to the new one, row by row."""

    new: sqlite3.Connection
    at: int
    lost_from: int = 0
    lost_to: int = 0
    lost: int = 0

    def everything(self, old: sqlite3.Connection) -> None:
        """Each table by itself, so that one that cannot be read at all costs only itself."""
        self.new.execute("BEGIN")
        try:
            for table in _TYPES:
                with suppress(*schema.FAULTS):
                    self._insert(table, (row for row in _both_ends(old, table) if _sound(table, row)))
            self._alarms_of_history()
            snapshot_seq = self._snapshot(old)
            self._batches(old, snapshot_seq)
            self._clamp_positions()
        finally:
            self.new.execute("COMMIT")

    def told(self) -> tuple[Gap, ...]:
        """Write down what is missing."""
        to_ms = self.lost_to or self.at
        gap = Gap(self.at, "readings", self.lost, self.lost_from, to_ms, GapReason.STORE_DAMAGED)
        self.new.execute(
            "INSERT INTO gaps (at, lane, count, from_ms, to_ms, reason) VALUES (?, ?, ?, ?, ?, ?)",
            (gap.at, gap.lane, gap.count, gap.from_ms, gap.to_ms, gap.reason),
        )
        return (gap,)

    def _insert(self, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
        for row in rows:
            marks = ", ".join("?" * len(row))
            with suppress(sqlite3.IntegrityError):  # a damaged key may be there twice
                self.new.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own names

    def _alarms_of_history(self) -> None:
        """An alarm that cannot be read is in its newest change too."""
        self.new.execute(
            "INSERT INTO alarms (id, key, on_board, version, updated_seq, body)"
            " SELECT alarm_id, '', 0, version, 0, body FROM alarm_changes AS newest WHERE number ="
            " (SELECT max(number) FROM alarm_changes WHERE alarm_id = newest.alarm_id)"
            " AND alarm_id NOT IN (SELECT id FROM alarms)"
        )
        for id_, body in self.new.execute("SELECT id, body FROM alarms WHERE key = ''").fetchall():
            alarm = codec.decode_alarm(body)
            self.new.execute(
                "UPDATE alarms SET key = ?, on_board = ? WHERE id = ?", (alarm.key, alarm.on_board, id_)
            )

    def _snapshot(self, old: sqlite3.Connection) -> int:
        """The snapshot whole or not at all: half of the devices would be taken for all."""
        try:
            head = old.execute("SELECT id, seq, now, rules_hash, header FROM snapshot").fetchone()
            parts = old.execute("SELECT seq, body FROM snapshot_parts ORDER BY seq").fetchall()
            if head is None or not all(isinstance(body, bytes) for body in (head[4], *(p[1] for p in parts))):
                return 0
            thaw(
                codec.decode_header(head[4]),
                [device for _, body in parts for device in codec.decode_devices(body)],
            )
        except (sqlite3.Error, JournalDamaged, msgspec.MsgspecError, ValueError, TypeError):
            return 0
        self.new.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?, ?)", head)
        self.new.executemany("INSERT INTO snapshot_parts VALUES (?, ?)", parts)
        seq: int = head[1]
        return seq

    def _batches(self, old: sqlite3.Connection, snapshot_seq: int) -> None:
        """Newest first, so that what is left out is the oldest."""
        readers = self.new.execute(_READERS).fetchall()
        floor = min([snapshot_seq, *(seq for (seq,) in readers)])
        room = MOST_READINGS
        for row in _downwards(old, floor, self._hole):
            if not all(isinstance(value, types) for value, types in zip(row, _BATCH, strict=True)):
                self._missing(0, 0, self.at)
                continue
            _seq, now, first_at, last_at, readings, _ids, packets, body = row
            if room > 0 and _decodes(packets, codec.decode_packets) and _decodes(body, codec.decode_inputs):
                room -= readings
                self._insert("batches", iter((row,)))
            else:
                self._missing(readings, first_at or now, last_at or now)

    def _hole(self, from_ms: int, to_ms: int) -> None:
        self._missing(0, from_ms, to_ms)

    def _missing(self, readings: int, from_ms: int, to_ms: int) -> None:
        self.lost += readings
        self.lost_from = min(self.lost_from, from_ms) if self.lost_from else from_ms
        self.lost_to = max(self.lost_to, to_ms)

    def _clamp_positions(self) -> None:
        """Numbers go on from what is left; a position beyond it would hide what comes."""
        for name, newest in (
            ("readings", LAST_SEQ),
            ("alarms", "SELECT ifnull(max(number), 0) FROM alarm_changes"),
            ("gaps", "SELECT ifnull(max(id), 0) FROM gaps"),
        ):  # fmt: skip
            self.new.execute(
                f"UPDATE positions SET seq = min(seq, ({newest})) WHERE name = ?",  # noqa: S608 - our own texts
                (name,),
            )


def _open_damaged(path: Path) -> sqlite3.Connection:
    """For reading, whatever its header says of us and whatever its list of tables looks like."""
    old = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    old.execute("PRAGMA writable_schema = ON")
    return old


def _both_ends(old: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Rows in order up to the damage, then from the other end down to it; no row twice."""
    seen: set[object] = set()
    for direction in ("ASC", "DESC"):
        try:
            for row in old.execute(f"SELECT * FROM {table} ORDER BY 1 {direction}"):  # noqa: S608 - our own names
                name = row[0]
                if name in seen:
                    return
                seen.add(name)
                yield row
        except schema.FAULTS:
            continue
        return


def _downwards(
    old: sqlite3.Connection, floor: int, hole: Callable[[int, int], None]
) -> Iterator[tuple[Any, ...]]:
    """Batches after ``floor``, newest first; what cannot be read is leapt over in growing steps and told."""
    seq, step, above = 2**63 - 1, 1, 0
    while seq > floor:
        try:
            for row in old.execute(
                "SELECT * FROM batches WHERE seq < ? AND seq > ? ORDER BY seq DESC", (seq, floor)
            ):
                if step > 1:
                    hole(row[1], above or row[1])
                seq, above, step = row[0], row[1], 1
                yield row
        except schema.FAULTS:
            if seq == 2**63 - 1:
                seq = _highest(old)
                step = 2
                continue
            seq -= step
            step *= 2
            if seq <= floor:
                hole(0, above)
        else:
            return


def _highest(old: sqlite3.Connection) -> int:
    """Where to begin when the newest batches cannot be read: beyond all that is known of."""
    highest = 0
    for statement in (
        "SELECT max(updated_seq) FROM alarms", "SELECT seq FROM snapshot", _READERS,
        "SELECT max(seq) FROM (SELECT seq FROM batches ORDER BY seq)",
    ):  # fmt: skip
        with suppress(*schema.FAULTS):
            for (seq,) in old.execute(statement):
                highest = max(highest, seq or 0)
    with suppress(*schema.FAULTS):
        for (seq,) in old.execute("SELECT seq FROM batches ORDER BY seq"):
            highest = max(highest, seq)
    return highest + 1


def _sound(table: str, row: Sequence[Any]) -> bool:
    """Whether a row can be read by those who will: SQLite checks types when it writes, not when it reads."""
    if not all(isinstance(value, types) for value, types in zip(row, _TYPES[table], strict=True)):
        return False
    match table:
        case "alarms" | "alarm_changes":
            return _decodes(row[-1], codec.decode_alarm)
        case "orders":
            return row[7] in set(OrderStatus) and _decodes(row[4], codec.decode_args)
        case "rule_sets":
            return _decodes(row[-1], codec.decode_documents)
        case "outbox":
            return row[1] in set(OutgoingKind)
        case "gaps":
            return row[-1] in set(GapReason)
        case _:
            return True


def _decodes(blob: bytes | None, decode: Callable[[bytes], object]) -> bool:
    try:
        return blob is None or decode(blob) is not None
    except JournalDamaged:
        return False
