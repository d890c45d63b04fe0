"""The journal for those who only read: the web, the bridge, the command line, recovery.

Every call is one short statement over a bounded slice, read to its end before it returns: no read
transaction lasts from call to call, so the writer's checkpoints are never held up for long. A reader sees
whole batches only. One reader may be used by several threads; they take turns.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from devices.readings import Address
from edge.store import codec, schema
from edge.store.errors import JournalDamaged, JournalReplaced, ReadFailed
from edge.store.records import (
    DeadLetter,
    Gap,
    GapReason,
    KeptRules,
    OrderRecord,
    OrderStatus,
    Quarantined,
    ReplayBatch,
)
from rules.alarms import Alarm, AlarmChange, Transition
from rules.decisions import Input, Order

MOST_ROWS = 1_000
"""Rows of one slice, whatever was asked for."""

_BATCHES = 500

_T = TypeVar("_T")
_Blob = TypeVar("_Blob", bytes, bytes | None)

CHANGES_AFTER = (
    "SELECT number, transition, at, body FROM alarm_changes WHERE number > ? ORDER BY number LIMIT ?"
)
CHANGES_BEFORE = (
    "SELECT number, transition, at, body FROM alarm_changes WHERE number < ? ORDER BY number DESC LIMIT ?"
)

_ORDERS = "SELECT o.*, ifnull(g.name, '') FROM orders AS o LEFT JOIN order_givers AS g ON g.order_id = o.id"
_AFTER_ALL_IDS = "~"

LAST_SEQ = "SELECT max(ifnull((SELECT max(seq) FROM batches), 0), ifnull((SELECT seq FROM snapshot), 0))"
"""The last batch that left a trace."""

LAST_NOW = (
    "SELECT ifnull((SELECT now FROM (SELECT * FROM (SELECT seq, now FROM batches ORDER BY seq DESC LIMIT 1)"
    " UNION ALL SELECT seq, now FROM snapshot) ORDER BY seq DESC LIMIT 1), 0)"
)
"""The engine's time at that batch; not the latest time there is, for a clock may have been set back."""


_BEHIND = {
    "readings": "SELECT ifnull(sum(readings), 0) FROM batches WHERE seq > ?",
    "alarms": "SELECT count(*) FROM alarm_changes WHERE number > ?",
    "gaps": "SELECT count(*) FROM gaps WHERE id > ?",
}


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch as it lies in the journal: a tenth of the memory of its inputs."""

    seq: int
    now: int
    body: bytes | None

    @property
    def inputs(self) -> list[Input]:
        """Decoded anew each time. Raises `ReadFailed`."""
        return decode_row(self.seq, self.body, codec.decode_inputs)

    def unpacked(self) -> bytes:
        """Its inputs as MessagePack, in which each text of theirs stands as it is. Raises `ReadFailed`."""
        return decode_row(self.seq, self.body, codec.unpacked_inputs)


class JournalReader:
    """Reads ``path`` from `open` on. Every method raises `ReadFailed` where the disk or a row fails.

    ``follow``: when a damaged journal has been begun anew, go on with the new one; else `JournalReplaced`.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self._follow = follow
        self._path = path
        self._file: tuple[int, int] | None = None
        """Which file it is: a damaged one is replaced while we read."""
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.Lock()

    def open(self) -> None:
        """Raises `StoreUnusable` where there is no journal that this version can read."""
        self._file = self._found()
        self._connection = schema.open_reader(self._path)

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- alarms ---------------------------------------------------------------------------------------------

    def standing_alarms(self) -> list[Alarm]:
        """What is on the board, oldest first."""
        return [
            codec.decode_alarm(body)
            for (body,) in self.rows("SELECT body FROM alarms WHERE on_board ORDER BY id")
        ]

    def departed_alarms(self, after_seq: int) -> list[Alarm]:
        """What has left the board after the batch ``after_seq``."""
        return [
            codec.decode_alarm(body)
            for (body,) in self.rows(
                "SELECT body FROM alarms WHERE NOT on_board AND updated_seq > ?", after_seq
            )
        ]

    def alarm(self, alarm_id: str) -> Alarm | None:
        """One alarm as it is now or as it was when it left the board."""
        found = self.rows("SELECT body FROM alarms WHERE id = ?", alarm_id)
        return codec.decode_alarm(found[0][0]) if found else None

    def changes_after(self, number: int, limit: int) -> list[tuple[int, AlarmChange]]:
        """At most ``limit`` alarm changes after ``number``, in order, each with its number."""
        return self._changes(CHANGES_AFTER, number, min(limit, MOST_ROWS))

    def history(self, limit: int, before: int | None = None) -> list[tuple[int, AlarmChange]]:
        """At most ``limit`` alarm changes with numbers below ``before``, the newest first."""
        top = 2**63 - 1 if before is None else before
        return self._changes(CHANGES_BEFORE, top, min(limit, MOST_ROWS))

    def last_change(self) -> int:
        """The number of the newest alarm change, 0 if there was none."""
        return self._number("SELECT ifnull(max(number), 0) FROM alarm_changes")

    def orders(self, alarm_id: str) -> list[OrderRecord]:
        """The orders given for an alarm, and their fate."""
        rows = self.rows(
            f"{_ORDERS} WHERE o.alarm_id = ? ORDER BY o.issued_at, o.id LIMIT ?", alarm_id, MOST_ROWS
        )
        return [_order(row) for row in rows]

    def order(self, order_id: str) -> OrderRecord | None:
        """One order, and its fate."""
        found = self.rows(f"{_ORDERS} WHERE o.id = ?", order_id)
        return _order(found[0]) if found else None

    def newest_orders(self, limit: int, before: str | None = None) -> list[OrderRecord]:
        """At most ``limit`` orders with ids below ``before``, the newest first."""
        top = _AFTER_ALL_IDS if before is None else before
        rows = self.rows(f"{_ORDERS} WHERE o.id < ? ORDER BY o.id DESC LIMIT ?", top, min(limit, MOST_ROWS))
        return [_order(row) for row in rows]

    # --- batches --------------------------------------------------------------------------------------------

    def batches_after(self, seq: int, limit_readings: int) -> list[ReplayBatch]:
        """Whole batches after ``seq``, in order, up to ``limit_readings`` readings; at least one batch."""
        return [
            ReplayBatch(packed.seq, packed.now, packed.inputs)
            for packed in self.packed_after(seq, limit_readings)
        ]

    def packed_after(self, seq: int, limit_readings: int) -> list[PackedBatch]:
        """The same, decoded when its inputs are asked for."""
        rows: list[Any] = []
        readings = 0
        with self._reading() as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                "SELECT seq, now, readings, body FROM batches WHERE seq > ? ORDER BY seq LIMIT ?",
                (seq, _BATCHES),
            )
            for row in cursor:
                readings += row[2]
                if rows and readings > limit_readings:
                    break
                rows.append(row)
        return [PackedBatch(number, now, body) for number, now, _, body in rows]

    def first_reading(self) -> int | None:
        """When the oldest reading here arrived (Unix ms); None if there is none."""
        found = self.rows("SELECT first_at FROM batches WHERE readings ORDER BY seq LIMIT 1")
        return found[0][0] if found else None

    def batch_before(self, at: int) -> int:
        """A batch after which everything from ``at`` (Unix ms) on lies."""
        found = self._number("SELECT ifnull((SELECT min(seq) FROM batches WHERE last_at >= ?), 0)", at)
        return max(0, found - 1)

    def last_seq(self) -> int:
        """The newest batch, 0 if there is none."""
        return self._number(LAST_SEQ)

    def last_now(self) -> int:
        """The engine's time at the newest batch (Unix ms), 0 if there is none."""
        return self._number(LAST_NOW)

    def positions(self) -> dict[str, int]:
        """How far each reader of the journal has come."""
        return dict(self.rows("SELECT name, seq FROM positions"))

    def rules(self) -> KeptRules | None:
        """The rules in force, as they are kept; None in a journal that keeps none yet."""
        found = self.rows("SELECT hash, at, body FROM rule_sets ORDER BY id DESC LIMIT 1")
        if not found:
            return None
        rules_hash, at, body = found[0]
        return KeptRules(rules_hash, at, codec.decode_documents(body))

    # --- losses ---------------------------------------------------------------------------------------------

    def gaps_after(self, row: int, limit: int) -> list[tuple[int, Gap]]:
        """At most ``limit`` known losses after ``row``, in order, each with its row."""
        return self._gaps("SELECT * FROM gaps WHERE id > ? ORDER BY id LIMIT ?", row, min(limit, MOST_ROWS))

    def newest_gaps(self, limit: int, before: int | None = None) -> list[tuple[int, Gap]]:
        """At most ``limit`` known losses with rows below ``before``, the newest first, each with its row."""
        top = 2**63 - 1 if before is None else before
        statement = "SELECT * FROM gaps WHERE id < ? ORDER BY id DESC LIMIT ?"
        return self._gaps(statement, top, min(limit, MOST_ROWS))

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The newest lines that the cloud store refused, newest first."""
        rows = self.rows(
            "SELECT at, feed, line, status, words FROM dead_letters ORDER BY id DESC LIMIT ?",
            min(limit, MOST_ROWS),
        )
        return [DeadLetter(*row) for row in rows]

    def behind(self, feed: str, position: int) -> int:
        """How many rows of a feed (`readings`, `alarms`, `gaps`) lie after ``position``."""
        return self._number(_BEHIND[feed], position)

    def quarantine(self, limit: int) -> list[Quarantined]:
        """The newest rejected messages, newest first, at most 100 of them (up to 64 KiB each)."""
        return [
            Quarantined(at, topic, reason, detail, payload, size, sha256)
            for at, topic, reason, detail, payload, size, sha256 in self.rows(
                "SELECT at, topic, reason, detail, payload, size, sha256 FROM quarantine"
                " ORDER BY id DESC LIMIT ?",
                min(limit, 100),
            )
        ]

    def bytes_used(self) -> int:
        """Bytes of the file and its write-ahead log."""
        return sum(
            file.stat().st_size for file in (self._path, Path(f"{self._path}-wal")) if file.exists()
        )  # fmt: skip

    # --- for this package -----------------------------------------------------------------------------------

    def rows(self, statement: str, *values: str | int) -> list[Any]:
        """All rows of one statement that is bounded by itself."""
        with self._reading() as connection:
            return connection.execute(statement, values).fetchall()

    def _number(self, statement: str, *values: int) -> int:
        number: int = self.rows(statement, *values)[0][0]
        return number

    def _gaps(self, statement: str, *values: int) -> list[tuple[int, Gap]]:
        return [
            (number, Gap(at, lane, count, from_ms, to_ms, GapReason(reason)))
            for number, at, lane, count, from_ms, to_ms, reason in self.rows(statement, *values)
        ]

    def _changes(self, statement: str, *values: int) -> list[tuple[int, AlarmChange]]:
        return [
            (number, AlarmChange(Transition(transition), codec.decode_alarm(body), at))
            for number, transition, at, body in self.rows(statement, *values)
        ]

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            if self._connection is None:
                raise ReadFailed(f"{self._path}: not open")
            if (found := self._found()) not in (None, self._file):
                if self._follow:
                    self._connection.close()
                    self._connection, self._file = schema.open_reader(self._path), found
                else:
                    raise JournalReplaced(f"{self._path}: another file since it was opened: open it again")
            try:
                yield self._connection
            except schema.FAULTS as error:
                failed = JournalDamaged if schema.is_damage(error) else ReadFailed
                raise failed(f"{self._path}: cannot be read ({error})") from error


def decode_row(seq: int, blob: _Blob, decode: Callable[[_Blob], _T]) -> _T:
    """Decode a column of batch ``seq``; a `JournalDamaged` names the batch."""
    try:
        return decode(blob)
    except JournalDamaged as error:
        raise JournalDamaged(f"batch {seq}: {error}") from error


def _order(row: tuple[Any, ...]) -> OrderRecord:
    """A row of ``_ORDERS``."""
    id_, alarm, address, command, args, issued_at, expires_at, status, detail, at, by = row
    order = Order(id_, alarm, Address(address), command, codec.decode_args(args), issued_at, expires_at, by)
    return OrderRecord(order, OrderStatus(status), detail, at)
