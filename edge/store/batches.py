"""A batch in its tables: what one transaction writes, and where the database stands after it.

The caller owns the transaction. Tables that a batch does not concern are not touched: each would cost a
page or more of an SD card's life.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from edge.store import codec
from edge.store.corrections import set_clock
from edge.store.inputs import Inputs
from edge.store.reader import LAST_NOW, LAST_SEQ
from edge.store.records import (
    Batch,
    DeadLetter,
    Gap,
    KeptRules,
    OrderResult,
    OrderStatus,
    Outgoing,
    Quarantined,
    Snapshot,
)
from edge.store.schema import PAGE_SIZE
from rules.alarms import AlarmChange
from rules.decisions import ClockStepped, Input, Order

QUARANTINE_ROWS = 1_000
DEAD_LETTERS = 10_000
"""Rows."""
GAPS = 100_000
"""Rows of the gap ledger: decades of ordinary trouble, some megabytes of the worst."""
RULE_SETS = 100
"""Rows: some 20 kB each; people ask of an alarm of last month by which rule it came."""
NOTHING_THERE: Mapping[tuple[str, int], int] = MappingProxyType({})
_OR_IGNORE = ("", "OR IGNORE")

QUARANTINE_BYTES = 16 * 1024 * 1024

FRAME = PAGE_SIZE + 24
"""Bytes of a page in the write-ahead log."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the database stands; known to the writer so that a commit reads nothing."""

    seq: int
    now: int
    snapshot_seq: int
    change_number: int
    positions: Mapping[str, int]
    quarantine: deque[tuple[int, int]]
    """Row and bytes of each rejected message that is kept, oldest first."""


def read_standing(connection: sqlite3.Connection) -> Standing:
    """Where the database stands now."""

    def number(statement: str) -> int:
        found: int = connection.execute(statement).fetchone()[0]
        return found

    return Standing(
        seq=number(LAST_SEQ),
        now=number(LAST_NOW),
        snapshot_seq=number("SELECT ifnull(max(seq), 0) FROM snapshot"),
        change_number=number("SELECT ifnull(max(number), 0) FROM alarm_changes"),
        positions=dict(connection.execute("SELECT name, seq FROM positions").fetchall()),
        quarantine=deque(connection.execute("SELECT id, length(payload) FROM quarantine ORDER BY id")),
    )


def write_batch(
    connection: sqlite3.Connection,
    batch: Batch,
    body: bytes | None,
    standing: Standing,
    there: Mapping[tuple[str, int], int] = NOTHING_THERE,
) -> tuple[Standing, list[tuple[int, AlarmChange]]]:
    """Write ``batch``, whose inputs are ``body``; gives where it stands then, and the changes numbered.

    ``there``: as `landed` found it; its changes keep their numbers and are not written again.
    """
    for clock_set in batch.clock_sets:
        set_clock(connection, clock_set)
    _write_row(connection, batch, body)
    quarantine = standing.quarantine
    new = [each for each in batch.changes if (each.alarm.id, each.alarm.version) not in there]
    changes = list(enumerate(new, standing.change_number + 1))
    if changes:
        _write_changes(connection, batch.seq, changes)
    if batch.outgoing or batch.sent:
        _write_outbox(connection, batch.outgoing, batch.sent, again=bool(batch.doubts))
    if batch.orders or batch.order_results:
        _write_orders(connection, batch.orders, batch.order_results, again=bool(batch.doubts))
    if batch.positions:
        _write_positions(connection, batch.positions)
    if batch.quarantined:
        quarantine = _write_quarantine(connection, batch.quarantined, quarantine)
    if batch.gaps:
        _write_gaps(connection, batch.gaps)
    if batch.dead_letters:
        _write_dead_letters(connection, batch.dead_letters)
    if batch.rules is not None:
        _write_rules(connection, batch.rules)
    if batch.snapshot is not None:
        _write_snapshot(connection, batch.seq, batch.now, batch.snapshot)
    after = Standing(
        seq=batch.seq,
        now=batch.now or standing.now,
        snapshot_seq=standing.snapshot_seq if batch.snapshot is None else batch.seq,
        change_number=standing.change_number + len(changes),
        positions={**standing.positions, **batch.positions} if batch.positions else standing.positions,
        quarantine=quarantine,
    )
    known = [(there[key], c) for c in batch.changes if (key := (c.alarm.id, c.alarm.version)) in there]
    return after, known + changes


def landed(
    connection: sqlite3.Connection, doubts: Sequence[int], number: int
) -> tuple[list[int], dict[tuple[str, int], int]]:
    """Which of the batches ``doubts`` are on disk, and the alarm changes after ``number`` (alarm and version) by
    their numbers.

    A sync that failed may leave a whole transaction in the log, and a connection that is opened anew finds it.
    """  # noqa: D205
    found = [
        seq for seq in doubts if connection.execute("SELECT 1 FROM batches WHERE seq = ?", (seq,)).fetchone()
    ]
    changes = connection.execute(
        "SELECT alarm_id, version, number FROM alarm_changes WHERE number > ?", (number,)
    )
    return found, {(alarm, version): there for alarm, version, there in changes}


def without_steps_of(connection: sqlite3.Connection, doubted: Sequence[int], batch: Batch) -> Batch:
    """``batch`` without what the batches ``doubted``, which are on disk after all, have said of the clock already."""
    told: list[Input] = []
    for seq in doubted:
        (body,) = connection.execute("SELECT body FROM batches WHERE seq = ?", (seq,)).fetchone()
        told += codec.decode_inputs(body)
    steps = [each for each in batch.inputs.of_the_clock if isinstance(each, ClockStepped)]
    return replace(
        batch,
        inputs=Inputs(
            each for each in batch.inputs if each not in batch.inputs.of_the_clock or each not in told
        ),
        clock_sets=[
            clock_set for step, clock_set in zip(steps, batch.clock_sets, strict=False) if step not in told
        ],
    )


def weight(batch: Batch, body: bytes | None) -> int:
    """About how many bytes a batch adds to the log: the pages of its rows, large values whole."""
    rows = 2 + 9 * len(batch.changes) + 4 * len(batch.orders) + len(batch.order_results)
    rows += len(batch.quarantined) + len(batch.positions) + len(batch.sent)
    large = len(body or b"") + sum(len(each.payload) for each in batch.quarantined)
    if batch.snapshot is not None:
        large += len(batch.snapshot.header) + sum(len(state) for _, state in batch.snapshot.devices) // 3
    return rows * FRAME + large


def _write_row(connection: sqlite3.Connection, batch: Batch, body: bytes | None) -> None:
    packets = codec.encode_packets(batch.sessions_begun, batch.packets)
    if body is None and packets is None and not batch.changes and not batch.orders:
        return
    inputs = batch.inputs if body is not None else Inputs()
    connection.execute(
        "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.seq,
            batch.now,
            inputs.first_at if inputs else batch.now,
            inputs.last_at if inputs else batch.now,
            inputs.readings,
            len(batch.recent) if body is not None else 0,
            packets,
            body,
        ),
    )


def _write_changes(
    connection: sqlite3.Connection, seq: int, changes: Sequence[tuple[int, AlarmChange]]
) -> None:
    coded = [(number, change, codec.encode_alarm(change.alarm)) for number, change in changes]
    newest = {change.alarm.id: (change.alarm, body) for _, change, body in coded}
    connection.executemany(
        "INSERT INTO alarms VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE"
        " SET on_board = ?3, version = ?4, updated_seq = ?5, body = ?6",
        [(alarm.id, alarm.key, alarm.on_board, alarm.version, seq, body) for alarm, body in newest.values()],
    )
    connection.executemany(
        "INSERT INTO alarm_changes VALUES (?, ?, ?, ?, ?, ?)",
        [
            (number, change.alarm.id, change.alarm.version, change.transition, change.at, body)
            for number, change, body in coded
        ],
    )


def _write_outbox(
    connection: sqlite3.Connection, outgoing: Sequence[Outgoing], sent: Iterable[int], *, again: bool
) -> None:
    connection.executemany(
        f"INSERT {_OR_IGNORE[again]} INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - one of two constants
        [(o.id, o.kind, o.subject, o.topic, o.payload, o.retain, o.expires_at) for o in outgoing],
    )
    connection.executemany("DELETE FROM outbox WHERE id = ?", [(each,) for each in sent])


def _write_orders(
    connection: sqlite3.Connection, orders: Sequence[Order], results: Sequence[OrderResult], *, again: bool
) -> None:
    if orders:
        connection.executemany(
            f"INSERT {_OR_IGNORE[again]} INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",  # noqa: S608 - as above
            [
                (o.id, o.alarm_id, o.address, o.command, codec.encode_args(o.args), o.issued_at, o.expires_at,
                 OrderStatus.PENDING, o.issued_at)
                for o in orders
            ],
        )  # fmt: skip
        connection.executemany(
            f"INSERT {_OR_IGNORE[again]} INTO order_givers VALUES (?, ?)",  # noqa: S608 - as above
            [(o.id, codec.storable_text(o.by)) for o in orders if o.by],
        )
    for result in results:
        own = result.status in (OrderStatus.SENT, OrderStatus.EXPIRED)
        connection.execute(
            "UPDATE orders SET status = ?, detail = ?, at = ? WHERE id = ? AND (status = ? OR NOT ?)",
            (
                result.status,
                None if result.detail is None else codec.storable_text(result.detail),
                result.at,
                result.order_id,
                OrderStatus.PENDING,
                own,
            ),
        )


def _write_positions(connection: sqlite3.Connection, positions: dict[str, int]) -> None:
    connection.executemany(
        "INSERT INTO positions VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = ?2",
        list(positions.items()),
    )


def _write_quarantine(
    connection: sqlite3.Connection, messages: Sequence[Quarantined], kept: deque[tuple[int, int]]
) -> deque[tuple[int, int]]:
    """Add ``messages`` and remove the oldest above the bounds; gives what is kept now."""
    after = kept.copy()
    last_id = after[-1][0] if after else 0
    for row_id, each in enumerate(messages, last_id + 1):
        text = codec.storable_text
        connection.execute(
            "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row_id,
                each.at,
                text(each.topic),
                each.reason,
                text(each.detail),
                each.size,
                each.sha256,
                each.payload,
            ),
        )
        after.append((row_id, len(each.payload)))
    size = sum(length for _, length in after)
    removed = 0
    while len(after) > QUARANTINE_ROWS or size > QUARANTINE_BYTES:
        removed, length = after.popleft()
        size -= length
    if removed:
        connection.execute("DELETE FROM quarantine WHERE id <= ?", (removed,))
    return after


def _write_gaps(connection: sqlite3.Connection, gaps: Iterable[Gap]) -> None:
    """The newest `GAPS` stay."""
    connection.executemany(
        "INSERT INTO gaps (at, lane, count, from_ms, to_ms, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [(g.at, g.lane, g.count, g.from_ms, g.to_ms, g.reason) for g in gaps],
    )
    connection.execute("DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?", (GAPS,))


def _write_snapshot(connection: sqlite3.Connection, seq: int, now: int, snapshot: Snapshot) -> None:
    """The changed devices lie in one part: a row for each would write a page for nearly each of them."""
    connection.execute(
        "INSERT INTO snapshot VALUES (1, ?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE"
        " SET seq = ?1, now = ?2, rules_hash = ?3, header = ?4",
        (seq, now, snapshot.rules_hash, codec.encode_header(snapshot.header)),
    )
    if snapshot.devices:
        connection.execute(
            "INSERT INTO snapshot_parts VALUES (?, ?)", (seq, codec.encode_devices(snapshot.devices))
        )


def _write_rules(connection: sqlite3.Connection, rules: KeptRules) -> None:
    """Where they are not in force already; the newest `RULE_SETS` stay."""
    newest = connection.execute("SELECT hash, at FROM rule_sets ORDER BY id DESC LIMIT 1").fetchone()
    if newest != (rules.hash, rules.at):
        connection.execute(
            "INSERT INTO rule_sets (hash, at, body) VALUES (?, ?, ?)",
            (rules.hash, rules.at, codec.encode_documents(rules.documents)),
        )
        connection.execute(
            "DELETE FROM rule_sets WHERE id <= (SELECT max(id) FROM rule_sets) - ?", (RULE_SETS,)
        )


def _write_dead_letters(connection: sqlite3.Connection, letters: Iterable[DeadLetter]) -> None:
    """The newest `DEAD_LETTERS` stay."""
    connection.executemany(
        "INSERT INTO dead_letters (at, feed, line, status, words) VALUES (?, ?, ?, ?, ?)",
        [
            (d.at, d.feed, codec.storable_text(d.line), d.status, codec.storable_text(d.words))
            for d in letters
        ],
    )
    connection.execute(
        "DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?", (DEAD_LETTERS,)
    )
