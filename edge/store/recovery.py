"""What a restart finds: facts as they were committed, and the batches that bring the engine up to them.

The same code serves after a crash and after a failed commit. Nothing here writes. What is read is bounded:
the batches after the last snapshot, the newest packets of each session, the message ids of some minutes.
"""

from collections.abc import Iterator
from pathlib import Path

from devices.topics import Lane
from edge.store import codec
from edge.store.errors import JournalDamaged
from edge.store.reader import JournalReader, decode_row
from edge.store.records import Marks, Outgoing, OutgoingKind, RecentId, Recovered, ReplayBatch

PACKETS_A_LANE = 8_192
PACKET_ROWS = 5_000
"""Batches looked through for packets: what the broker still holds was delivered in the newest of them."""

_SLICE_READINGS = 10_000
_SLICE_ROWS = 500


def recover(path: Path) -> Recovered:
    """Everything but the batches. Raises `StoreError`."""
    with JournalReader(path) as reader:
        snapshot = reader.rows("SELECT seq, rules_hash, header FROM snapshot")
        snapshot_seq, rules_hash, header = snapshot[0] if snapshot else (0, None, None)
        devices = {
            address: state
            for (body,) in reader.rows("SELECT body FROM snapshot_parts ORDER BY seq")
            for address, state in codec.decode_devices(body)
        }
        outgoing = _outgoing(reader)
        return Recovered(
            last_seq=reader.last_seq(),
            last_now=reader.last_now(),
            last_outgoing_id=outgoing[-1].id if outgoing else 0,
            snapshot_seq=snapshot_seq,
            rules_hash=rules_hash,
            rules=reader.rules(),
            header=None if header is None else codec.decode_header(header),
            devices=list(devices.items()),
            alarms=reader.standing_alarms(),
            departed=reader.departed_alarms(snapshot_seq),
            outgoing=outgoing,
            packets=_packets(reader),
            positions=reader.positions(),
        )


def replay(path: Path, after_seq: int) -> Iterator[ReplayBatch]:
    """The batches after ``after_seq``, in order. Raises `StoreError`."""
    with JournalReader(path) as reader:
        while slice_ := reader.batches_after(after_seq, _SLICE_READINGS):
            yield from slice_
            after_seq = slice_[-1].seq


def recent_ids(path: Path, since: int) -> Iterator[RecentId]:
    """The message ids that arrived at or after ``since`` (Unix ms), oldest first, all by the clock as it is at the end
    of the journal: what was stored before a step is moved by it. Raises `StoreError`.
    """  # noqa: D205
    found: list[list[RecentId]] = []
    with JournalReader(path) as reader:
        seq, moved = 2**63 - 1, 0
        while rows := reader.rows(
            "SELECT seq, now, body FROM batches WHERE seq < ? ORDER BY seq DESC LIMIT ?", seq, _SLICE_ROWS
        ):
            for seq, now, body in rows:
                if now + moved < since:
                    break
                stepped_ms, ids = decode_row(seq, body, codec.decode_recent)
                found.append([(name, mark, at + moved) for name, mark, at in ids if at + moved >= since])
                moved += stepped_ms
            else:
                continue
            break
    for ids in reversed(found):
        yield from ids


def seq_before(path: Path, moment: int) -> int:
    """The newest batch of a time before ``moment`` (Unix ms), 0 if there is none. Raises `StoreError`."""
    with JournalReader(path) as reader:
        return _before(reader, moment)


def _before(reader: JournalReader, since: int) -> int:
    """The newest batch of a time before ``since``."""
    seq: int = 2**63 - 1
    while rows := reader.rows(
        "SELECT seq, now FROM batches WHERE seq < ? ORDER BY seq DESC LIMIT ?", seq, _SLICE_ROWS
    ):
        for seq, now in rows:
            if now < since:
                return seq
    return 0


def _outgoing(reader: JournalReader) -> list[Outgoing]:
    rows = reader.rows("SELECT * FROM outbox ORDER BY id")
    try:
        return [
            Outgoing(id_, OutgoingKind(kind), subject, topic, payload, bool(retain), expires_at)
            for id_, kind, subject, topic, payload, retain, expires_at in rows
        ]
    except ValueError as error:
        raise JournalDamaged(f"the outbox holds what nobody wrote: {error}") from error


def _packets(reader: JournalReader) -> Marks:
    """From the newest batch backwards; a lane is done when it has enough or its session began."""
    found: dict[Lane, list[list[int]]] = {lane: [] for lane in Lane}
    room = dict.fromkeys(Lane, 2 * PACKETS_A_LANE)
    seq, looked_at = 2**63 - 1, 0
    while looked_at < PACKET_ROWS and any(room.values()):
        rows = reader.rows(
            "SELECT seq, packets FROM batches WHERE seq < ? AND packets IS NOT NULL"
            " ORDER BY seq DESC LIMIT ?",
            seq,
            _SLICE_ROWS,
        )
        if not rows:
            break
        looked_at += len(rows)
        seq = rows[-1][0]
        for number, blob in rows:
            for lane, begun, marks in decode_row(number, blob, codec.decode_packets):
                newest = marks[-room[lane] :] if room[lane] else []
                found[lane].append(newest)
                room[lane] = 0 if begun else room[lane] - len(newest)
    return {lane: [n for marks in reversed(batches) for n in marks] for lane, batches in found.items()}
