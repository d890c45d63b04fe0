"""The byte bound holds, takes the oldest first, never what recovery needs, and says what it has cost."""

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edge.store.reader import JournalReader
from edge.store.records import Batch, Quarantined, Snapshot
from edge.store.retention import Bounds
from edge.store.writer import Pressure, Writer
from tests.store_samples import alarming, quarantined, telemetry, time_of

BOUND = 1_500_000


def size_of(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())


def quiet(writer: Writer) -> None:
    while writer.keep_house(Pressure.IDLE):
        pass


def snapshotted(batch: Batch) -> Batch:
    batch.snapshot = Snapshot("rules", b"header", [])
    return batch


def churn(writer: Writer, first: int, last: int, *, every: int = 10, forwarded: int | None = None) -> None:
    """Commit large batches, a snapshot with every tenth; housekeeping as between commits under load."""
    for seq in range(first, last + 1):
        batch = telemetry(seq, 400)
        if seq % every == 0:
            snapshotted(batch)
        if forwarded is not None:
            batch.positions = {"readings": min(seq, forwarded)}
        writer.commit(batch)
        writer.keep_house(Pressure.BATCHES)


def test_file_and_log_stay_within_the_bound_however_much_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    largest, written = 0, 0
    for seq in range(1, 601):
        batch = telemetry(seq, 400) if seq % 7 else alarming(seq, 400)
        writer.commit(snapshotted(batch) if seq % 10 == 0 else batch)
        writer.keep_house(Pressure.ALARM if seq % 3 == 0 else Pressure.BATCHES)
        if seq % 50 == 0:
            quiet(writer)
        largest = max(largest, size_of(path))
        written += 400
    with JournalReader(path) as reader:
        kept = sum(len(each.inputs) for each in reader.batches_after(0, 10**9))
        assert len(reader.standing_alarms()) == len(reader.changes_after(0, 1_000)) == 85
        assert reader.gaps_after(0, 10) == []
        assert reader.bytes_used() == size_of(path)
    assert largest <= BOUND
    assert written > 4 * kept > 0
    writer.close()
    assert path.stat().st_size <= BOUND


def test_readings_that_had_not_been_forwarded_leave_a_gap_of_their_number_and_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=True)
    writer.open()
    churn(writer, 1, 300, forwarded=50)
    quiet(writer)
    with JournalReader(path) as reader:
        oldest = reader.batches_after(0, 1)[0].seq
        assert oldest > 51
        gaps = [each for _, each in reader.gaps_after(0, 1_000)]
    assert sum(each.count for each in gaps) == 400 * (oldest - 51)
    assert gaps[0].from_ms == time_of(51)
    assert gaps[-1].to_ms == time_of(oldest - 1)
    assert {(each.lane, each.reason) for each in gaps} == {("readings", "journal_full")}
    assert all(before.to_ms < after.from_ms for before, after in pairwise(gaps))
    writer.close()


def test_readings_that_had_been_forwarded_leave_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=True)
    writer.open()
    churn(writer, 1, 150, forwarded=10_000)
    with JournalReader(path) as reader:
        assert reader.batches_after(0, 1)[0].seq > 1
        assert reader.gaps_after(0, 10) == []
    writer.close()


def test_batches_after_the_last_snapshot_stay_whatever_the_bound_says(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    churn(writer, 1, 200, every=1_000)
    quiet(writer)
    with JournalReader(path) as reader:
        assert reader.batches_after(0, 1)[0].seq == 1
        assert writer.figures.starved
        writer.commit(snapshotted(telemetry(201)))
        quiet(writer)
        assert reader.batches_after(0, 1)[0].seq > 1
        assert reader.last_seq() == 201
    assert writer.figures == replace(writer.figures, starved=False)
    writer.close()


def test_the_freed_room_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    churn(writer, 1, 200)
    quiet(writer)
    full = path.stat().st_size
    churn(writer, 201, 400)
    quiet(writer)
    assert path.stat().st_size <= full * 1.05
    writer.close()


def test_while_an_alarm_waits_nothing_is_removed_before_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    bounds = Bounds(BOUND)
    writer = Writer(path, bounds, forwarding=False)
    seq = writer.open()

    pages = 0
    while not writer.figures.removed:
        seq += 1
        writer.commit(snapshotted(telemetry(seq, 100)))
        pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
        writer.keep_house(Pressure.ALARM)
    assert bounds.pages < bounds.most_pages < pages
    writer.close()


def test_the_quarantine_keeps_the_newest_thousand(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    for seq in range(1, 12):
        rejected = [quarantined(1_000 * seq + n) for n in range(101)]
        writer.commit(Batch(seq, now=time_of(seq), quarantined=rejected))
    with JournalReader(path) as reader:
        assert reader.rows("SELECT count(*) FROM quarantine") == [(1_000,)]
        assert reader.quarantine(1) == [quarantined(11_100)]
    writer.close()
    reopened = Writer(path, Bounds(BOUND), forwarding=False)
    assert reopened.open() == 0
    reopened.commit(Batch(1, now=time_of(1), quarantined=[quarantined(1)]))
    with JournalReader(path) as reader:
        assert reader.rows("SELECT count(*) FROM quarantine") == [(1_000,)]
    reopened.close()


def test_the_quarantine_keeps_at_most_16_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(64 * 1024 * 1024), forwarding=False)
    writer.open()
    for seq in range(1, 31):
        rejected = [quarantined(seq, bytes(64 * 1024)) for _ in range(10)]
        writer.commit(Batch(seq, now=time_of(seq), quarantined=rejected))
    with JournalReader(path) as reader:
        assert reader.rows("SELECT count(*), max(at) FROM quarantine") == [(256, time_of(30))]
    writer.close()


def test_text_that_is_no_text_is_quarantined_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    odd = Quarantined(1, "community/\udcff/\0", "bad_topic", "\ud800", b"\xff", 1, "00")
    writer.commit(Batch(1, now=1, quarantined=[odd]))
    with JournalReader(path) as reader:
        assert reader.quarantine(1)[0].topic == "community/?/\0"
    writer.close()


def test_readers_beside_it_do_not_break_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, Bounds(BOUND), forwarding=False)
    writer.open()
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        with JournalReader(path) as reader:
            while not done.is_set():
                batches = reader.batches_after(max(0, reader.last_seq() - 20), 2_000)
                assert all(len(each.inputs) == 400 for each in batches)
                seen.append(len(batches))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        largest = 0
        for seq in range(10, 310, 10):
            churn(writer, seq, seq + 9)
            quiet(writer)
            largest = max(largest, size_of(path))
    finally:
        done.set()
        thread.join()
        writer.close()
    assert largest <= BOUND
    assert any(seen)


@pytest.mark.parametrize("max_bytes", [2_000_000, 64_000_000, 2_000_000_000, 100_000_000_000])
def test_the_shares_of_the_bound_add_up(max_bytes: int) -> None:
    bounds = Bounds(max_bytes)
    assert bounds.most_pages * 1_024 + bounds.wal * 1.5 <= max_bytes
    assert bounds.slice < bounds.pages * 1_024
