"""What a step of the clock moves in the store, in the transaction that tells of it.

Orders that wait keep what is left of their time. Where the time had not been known, alarms, their history,
orders, gaps and what else people look at get their right times. The batches stay as they were decided on: whoever
reads them applies the step when he comes to it.
"""

import sqlite3

from edge.store import codec
from edge.store.records import ClockSet, OrderStatus, Outgoing, OutgoingKind
from rules.steps import corrected

_SLICE = 500

_MOMENTS = (
    ("orders", "issued_at"),
    ("orders", "at"),
    ("quarantine", "at"),
    ("gaps", "at"),
    ("gaps", "from_ms"),
    ("gaps", "to_ms"),
    ("dead_letters", "at"),
)


def set_clock(connection: sqlite3.Connection, given: ClockSet) -> None:
    """Move what lies in the tables; the caller owns the transaction and has not written its batch yet."""
    _postpone_orders(connection, given.postpone_ms)
    if given.since is not None:
        _correct_alarms(connection, given.since, given.by_ms)
        for table, column in _MOMENTS:
            connection.execute(
                f"UPDATE {table} SET {column} = {column} + ? WHERE {column} >= ?",  # noqa: S608 - of the list above
                (given.by_ms, given.since),
            )


def _postpone_orders(connection: sqlite3.Connection, by_ms: int) -> None:
    rows = connection.execute("SELECT * FROM outbox WHERE expires_at IS NOT NULL").fetchall()
    waiting = [Outgoing(row[0], OutgoingKind(row[1]), *row[2:]).postponed(by_ms) for row in rows]
    connection.executemany(
        "UPDATE outbox SET payload = ?, expires_at = ? WHERE id = ?",
        [(row.payload, row.expires_at, row.id) for row in waiting],
    )
    connection.execute(
        "UPDATE orders SET expires_at = expires_at + ? WHERE status = ?", (by_ms, OrderStatus.PENDING)
    )


def _correct_alarms(connection: sqlite3.Connection, since: int, by_ms: int) -> None:
    """All changes since the time was lost are provisional, and they are the newest."""
    number, concerned = 2**63 - 1, set[str]()
    while rows := connection.execute(
        "SELECT number, alarm_id, at, body FROM alarm_changes WHERE number < ? ORDER BY number DESC LIMIT ?",
        (number, _SLICE),
    ).fetchall():
        number = rows[-1][0]
        changes = [(row[0], row[1], row[2], codec.decode_alarm(row[3])) for row in rows]
        provisional = [change for change in changes if change[3].provisional]
        concerned.update(alarm_id for _, alarm_id, _, _ in provisional)
        connection.executemany(
            "UPDATE alarm_changes SET at = ?, body = ? WHERE number = ?",
            [
                (
                    at if at < since else at + by_ms,
                    codec.encode_alarm(corrected(alarm, since, by_ms)),
                    changed,
                )
                for changed, _, at, alarm in provisional
            ],
        )
        if len(provisional) < len(rows):
            break
    for alarm_id in concerned:
        body = connection.execute("SELECT body FROM alarms WHERE id = ?", (alarm_id,)).fetchone()[0]
        right = codec.encode_alarm(corrected(codec.decode_alarm(body), since, by_ms))
        connection.execute("UPDATE alarms SET body = ? WHERE id = ?", (right, alarm_id))
