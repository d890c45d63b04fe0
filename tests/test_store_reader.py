"""Those who only read see whole batches and hold nothing up."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.store.errors import ReadFailed
from edge.store.reader import JournalReader
from edge.store.retention import Bounds
from edge.store.writer import Writer
from tests.store_samples import alarm, alarming, everything, gap, order, telemetry


def filled(path: Path, batches: int, size: int = 3) -> Writer:
    writer = Writer(path, Bounds(2**26), forwarding=False)
    writer.open()
    for seq in range(1, batches + 1):
        writer.commit(everything(seq, size))
    return writer


def test_no_read_outlives_its_call(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = filled(path, 30, 100)
    other = sqlite3.connect(path, timeout=0)
    with JournalReader(path) as reader:
        calls: tuple[Callable[[], object], ...] = (
            reader.standing_alarms,
            lambda: reader.alarm(alarm(1).id),
            lambda: reader.changes_after(0, 2),
            lambda: reader.history(2),
            lambda: reader.batches_after(0, 150),
            reader.last_seq,
            lambda: reader.gaps_after(0, 2),
            reader.positions,
            lambda: reader.orders(alarm(1).id),
            lambda: reader.quarantine(2),
            reader.bytes_used,
        )
        for number, call in enumerate(calls, 31):
            writer.commit(telemetry(number))
            assert call()
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    other.close()
    writer.close()


def test_a_slice_of_batches_is_bounded_and_the_slices_make_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = filled(path, 30, 10)
    with JournalReader(path) as reader:
        assert [each.seq for each in reader.batches_after(0, 25)] == [1, 2]
        assert [each.seq for each in reader.batches_after(0, 1)] == [1]
        found, seq = [], 0
        while some := reader.batches_after(seq, 45):
            found += some
            seq = some[-1].seq
        assert [each.inputs for each in found] == [list(everything(n, 10).inputs) for n in range(1, 31)]
        assert reader.batches_after(30, 10) == []
    writer.close()


def test_a_reader_never_sees_a_part_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = filled(path, 1)
    done = threading.Event()
    looks: list[tuple[int, ...]] = []

    def read() -> None:
        with JournalReader(path) as reader:
            while not done.is_set():
                looks.extend(
                    reader.rows(
                        "SELECT (SELECT max(seq) FROM batches), (SELECT max(number) FROM alarm_changes),"
                        " (SELECT count(*) FROM alarms), (SELECT max(id) FROM outbox),"
                        " (SELECT seq FROM snapshot),"
                        " (SELECT count(*) FROM orders), (SELECT seq FROM positions WHERE name = 'alarms')"
                    )
                )

    thread = threading.Thread(target=read)
    thread.start()
    for seq in range(2, 300):
        writer.commit(everything(seq))
    done.set()
    thread.join()
    writer.close()
    assert len(set(looks)) > 1
    assert all(len(set(look)) == 1 for look in looks)


def test_several_threads_take_turns_on_one_reader(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = filled(path, 50)
    faults: list[BaseException] = []

    def read(reader: JournalReader) -> None:
        try:
            for seq in range(1, 51):
                assert reader.alarm(alarm(seq).id) == alarm(seq)
                assert [each.order for each in reader.orders(alarm(seq).id)] == [order(seq)]
        except BaseException as fault:  # noqa: BLE001 - told in the test's own thread
            faults.append(fault)

    with JournalReader(path) as reader:
        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    writer.close()
    assert not faults


def test_a_journal_that_nobody_writes_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 3).close()
    with JournalReader(path) as reader:
        assert reader.last_seq() == 3
        assert reader.last_change() == 3
        assert reader.gaps_after(2, 5) == [(3, gap(3))]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 1).close()
    with JournalReader(path) as reader, pytest.raises(ReadFailed, match="readonly"):
        reader.rows("DELETE FROM batches")


def test_a_closed_reader_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed, match="not open"):
        JournalReader(tmp_path / "journal.db").last_seq()


def test_an_alarm_that_never_was_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = filled(path, 1)
    writer.commit(alarming(2))
    with JournalReader(path) as reader:
        assert reader.alarm("unknown") is None
        assert reader.orders("unknown") == []
    writer.close()
