"""The node's side: batches durable, in order, whole; failures told; recovery finds what was committed."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from devices.readings import Address
from devices.topics import Lane
from edge.store.errors import CommitFailed, JournalClosed, JournalFull, StoreError, StoreUnusable
from edge.store.journal import MOST_WAITING, Journal
from edge.store.reader import JournalReader
from edge.store.records import Batch, Committed, OrderResult, OrderStatus, Snapshot
from edge.store.recovery import PACKETS_A_LANE
from edge.store.retention import Bounds
from edge.store.writer import Pressure, Writer
from rules.alarms import AlarmChange, Transition
from tests.store_samples import (
    alarm,
    alarming,
    dead_letter,
    everything,
    gap,
    order,
    quarantined,
    telemetry,
    time_of,
)

T = TypeVar("T")
BYTES = 64 * 1024 * 1024


def with_journal(
    directory: Path,
    use: Callable[[Journal], Coroutine[object, object, T]],
    *,
    max_bytes: int = BYTES,
    trace: Callable[[str], object] | None = None,
) -> T:
    async def run() -> T:
        async with Journal(directory, max_bytes=max_bytes, forwarding=False, trace=trace) as journal:
            return await asyncio.wait_for(use(journal), 30)

    return asyncio.run(run())


async def commit_all(journal: Journal, *batches: Batch) -> list[Committed]:
    return [await journal.commit(batch) for batch in batches]


def test_every_table_is_there_again_after_reopening(tmp_path: Path) -> None:
    batches = [everything(seq) for seq in (1, 2, 3)]
    with_journal(tmp_path, lambda journal: commit_all(journal, *batches))

    async def look(journal: Journal) -> None:
        found = journal.recover()
        assert found.last_seq == 3
        assert found.last_now == time_of(3)
        assert found.last_outgoing_id == 3
        assert (found.snapshot_seq, found.rules_hash, found.header) == (3, "rules-3", b"header-3")
        assert found.devices == [(Address(f"c1/charger/{seq}"), b"state-%d" % seq) for seq in (1, 2, 3)]
        assert found.alarms == [alarm(seq) for seq in (1, 2, 3)]
        assert found.outgoing == [out for batch in batches for out in batch.outgoing]
        assert found.packets[Lane.BULK] == [n for batch in batches for n in batch.packets[Lane.BULK]]
        assert found.positions == {"readings": 2, "alarms": 3}
        assert [each.inputs for each in journal.replay(0)] == [list(batch.inputs) for batch in batches]
        assert [each.seq for each in journal.replay(1)] == [2, 3]
        assert list(journal.recent_ids(0)) == [each for batch in batches for each in batch.recent]
        with JournalReader(journal.path) as reader:
            assert reader.changes_after(0, 10) == [(n, batches[n - 1].changes[0]) for n in (1, 2, 3)]
            assert [record.order for record in reader.orders(alarm(2).id)] == [order(2)]
            assert reader.quarantine(10) == [quarantined(seq) for seq in (3, 2, 1)]
            assert reader.dead_letters(10) == [dead_letter(seq) for seq in (3, 2, 1)]
            assert reader.gaps_after(0, 10) == [(seq, gap(seq)) for seq in (1, 2, 3)]
        assert (await journal.commit(telemetry(4))).seq == 4

    with_journal(tmp_path, look)


def test_a_new_journal_recovers_to_nothing(tmp_path: Path) -> None:
    async def look(journal: Journal) -> None:
        found = journal.recover()
        assert (found.last_seq, found.last_now, found.snapshot_seq, found.header) == (0, 0, 0, None)
        assert not any(
            (found.devices, found.alarms, found.outgoing, *found.packets.values(), found.positions)
        )
        assert list(journal.replay(0)) == []
        assert list(journal.recent_ids(0)) == []

    with_journal(tmp_path, look)


def test_changes_are_numbered_in_order_without_holes(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        done = await asyncio.gather(*(journal.commit(alarming(seq)) for seq in range(1, 21)))
        assert [each.seq for each in done] == list(range(1, 21))
        assert [number for each in done for number, _ in each.changes] == list(range(1, 21))

    with_journal(tmp_path, use)


def test_only_the_standing_alarms_are_recovered_with_their_newest_facts(tmp_path: Path) -> None:
    raised, gone = alarming(1), alarming(2)
    second = gone.changes[0].alarm
    closed = Batch(3, now=time_of(3))
    from_board = msgspec.structs.replace(second, closed=True, version=2)
    closed.changes = [AlarmChange(Transition.CLOSED, from_board, time_of(3))]
    with_journal(tmp_path, lambda journal: commit_all(journal, raised, gone, closed))

    async def look(journal: Journal) -> None:
        assert journal.recover().alarms == [alarm(1)]
        assert journal.recover().last_now == time_of(3)
        with JournalReader(journal.path) as reader:
            assert reader.alarm(second.id) == from_board
            assert [number for number, _ in reader.history(10)] == [3, 2, 1]
            assert [number for number, _ in reader.history(10, before=3)] == [2, 1]

    with_journal(tmp_path, look)


def test_what_was_sent_leaves_the_outbox(tmp_path: Path) -> None:
    sent = Batch(3, now=time_of(3), sent=[1])
    with_journal(tmp_path, lambda journal: commit_all(journal, alarming(1), alarming(2), sent))

    async def look(journal: Journal) -> None:
        assert [each.id for each in journal.recover().outgoing] == [2]

    with_journal(tmp_path, look)


def test_an_order_keeps_what_the_device_answered(tmp_path: Path) -> None:
    def news(seq: int, *results: tuple[int, OrderStatus]) -> Batch:
        told = [OrderResult(order(number).id, status, None, time_of(seq)) for number, status in results]
        return Batch(seq, now=time_of(seq), order_results=told)

    async def use(journal: Journal) -> None:
        await commit_all(
            journal,
            *(everything(seq) for seq in (1, 2, 3)),
            news(4, (1, OrderStatus.SENT), (2, OrderStatus.DONE), (3, OrderStatus.EXPIRED)),
            news(5, (2, OrderStatus.SENT), (2, OrderStatus.EXPIRED), (3, OrderStatus.FAILED)),
        )
        with JournalReader(journal.path) as reader:
            found = [(each.status, each.at) for seq in (1, 2, 3) for each in reader.orders(alarm(seq).id)]
        assert found == [
            (OrderStatus.SENT, time_of(4)),
            (OrderStatus.DONE, time_of(4)),
            (OrderStatus.FAILED, time_of(5)),
        ]

    with_journal(tmp_path, use)


def test_a_session_that_began_anew_forgets_its_packets_and_no_other_lane_s(tmp_path: Path) -> None:
    def packets(seq: int, begun: list[Lane]) -> Batch:
        marks = {lane: [seq, seq] for lane in Lane}
        return Batch(seq, now=time_of(seq), packets=marks, sessions_begun=begun)

    batches = [packets(1, []), packets(2, [Lane.BULK]), packets(3, [])]
    with_journal(tmp_path, lambda journal: commit_all(journal, *batches))

    async def look(journal: Journal) -> None:
        found = journal.recover().packets
        assert found[Lane.SAFETY] == [1, 1, 2, 2, 3, 3]
        assert found[Lane.BULK] == [2, 2, 3, 3]

    with_journal(tmp_path, look)


def test_only_the_newest_packets_of_a_lane_are_recovered(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        for seq in range(1, 7):
            marks = [number for n in range(2_000) for number in (n + 1, seq)]
            batch = Batch(seq, now=time_of(seq), packets={Lane.SAFETY: [seq, seq], Lane.BULK: marks})
            await journal.commit(batch)
        found = journal.recover().packets
        bulk = list(zip(found[Lane.BULK][1::2], found[Lane.BULK][::2], strict=True))
        assert len(bulk) == PACKETS_A_LANE
        assert bulk[-1] == (6, 2_000)
        assert bulk == sorted(bulk)
        assert found[Lane.SAFETY][::2] == [1, 2, 3, 4, 5, 6]

    with_journal(tmp_path, use)


def test_message_ids_are_recovered_since_a_time(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        await commit_all(journal, *(telemetry(seq, 2) for seq in range(1, 1_201)))
        found = list(journal.recent_ids(time_of(1_100)))
        assert len(found) == 2 * 101
        assert found[0][2] == time_of(1_100)
        assert found == sorted(found, key=lambda each: each[2])

    with_journal(tmp_path, use)


def test_a_snapshot_overlays_the_devices_of_earlier_ones(tmp_path: Path) -> None:
    def snapshot(seq: int, **states: bytes) -> Batch:
        devices = [(Address(name), state) for name, state in states.items()]
        return Batch(seq, now=time_of(seq), snapshot=Snapshot(f"h{seq}", b"head", devices))

    merged = asyncio.Event()

    async def use(journal: Journal) -> None:
        loop = asyncio.get_running_loop()
        traced.append(lambda: loop.call_soon_threadsafe(merged.set))
        for seq in range(1, 12):
            await journal.commit(snapshot(seq, a=b"a%d" % seq, **{f"only-{seq}": b"state"}))
        await merged.wait()
        await journal.commit(snapshot(12, b=b"b"))
        found = journal.recover()
        assert found.snapshot_seq == found.last_seq == 12
        assert found.last_now == time_of(12)
        assert dict(found.devices) == {"a": b"a11", "b": b"b"} | {f"only-{n}": b"state" for n in range(1, 12)}

    traced: list[Callable[[], object]] = []

    def trace(statement: str) -> None:
        if statement.startswith("DELETE FROM snapshot_parts"):
            traced[0]()

    with_journal(tmp_path, use, trace=trace)


def test_a_journal_that_cannot_be_opened_leaves_the_directory_free(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE recipes (name TEXT)")
    foreign.close()
    with pytest.raises(StoreUnusable, match="move it away"):
        with_journal(tmp_path, commit_all)
    path.unlink()
    with_journal(tmp_path, lambda journal: commit_all(journal, telemetry(1)))


# --- failures -----------------------------------------------------------------------------------------------


def forbid(path: Path, seq: int) -> None:
    with sqlite3.connect(path) as other:
        other.execute(
            f"CREATE TRIGGER forbidden BEFORE INSERT ON outbox WHEN new.id = {seq} "
            "BEGIN SELECT RAISE(ABORT, 'the disk said no'); END"
        )
    other.close()


def allow(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TRIGGER forbidden")
    other.close()


def test_a_failed_batch_fails_those_after_it_until_the_engine_is_rebuilt(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        forbid(journal.path, 3)
        given = [journal.commit(everything(seq)) for seq in range(1, 7)]
        results = await asyncio.gather(*given, return_exceptions=True)
        assert [each.seq for each in results[:2] if isinstance(each, Committed)] == [1, 2]
        first, *later = results[2:]
        assert isinstance(first, CommitFailed)
        assert (first.seq, first.because_of) == (3, None)
        assert "the disk said no" in str(first)
        assert [(each.seq, each.because_of) for each in later if isinstance(each, CommitFailed)] == [
            (4, 3), (5, 3), (6, 3)
        ]  # fmt: skip
        with pytest.raises(CommitFailed):
            await journal.commit(everything(7))
        assert journal.failures == 5

        found = journal.recover()
        assert (found.last_seq, found.snapshot_seq, found.rules_hash) == (2, 2, "rules-2")
        assert [each.id for each in found.outgoing] == [1, 2]
        assert [each.id for each in found.alarms] == [alarm(1).id, alarm(2).id]
        with JournalReader(journal.path) as reader:
            assert (
                len(reader.changes_after(0, 10))
                == len(reader.quarantine(10))
                == len(reader.gaps_after(0, 10))
                == 2
            )
            assert reader.orders(alarm(3).id) == []

        allow(journal.path)
        journal.reset()
        done = await commit_all(journal, *(everything(seq) for seq in (3, 4)))
        assert [number for each in done for number, _ in each.changes] == [3, 4]

    with_journal(tmp_path, use)


def test_a_disk_that_is_full_fails_the_batch_whole_and_room_lets_it_go_on(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "journal.db", Bounds(BYTES), forwarding=False)
    writer.open()
    writer.commit(everything(1))
    pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
    writer.connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(sqlite3.OperationalError, match="full") as full:
        writer.commit(everything(2, size=2_000))
    assert full.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    with JournalReader(tmp_path / "journal.db") as reader:
        assert reader.last_seq() == 1
        assert len(reader.standing_alarms()) == len(reader.quarantine(10)) == 1
        writer.connection.execute("PRAGMA max_page_count = 1000000")
        writer.commit(everything(2, size=2_000))
        assert reader.last_seq() == 2
    writer.close()


def test_a_batch_out_of_order_fails(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        await journal.commit(telemetry(2))
        with pytest.raises(CommitFailed, match="cannot follow batch 2"):
            await journal.commit(telemetry(2))

    with_journal(tmp_path, use)


def test_too_many_waiting_batches_are_refused_and_the_waiting_ones_are_committed(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        given = [journal.commit(telemetry(seq, 1)) for seq in range(1, MOST_WAITING + 1)]
        with pytest.raises(JournalFull):
            journal.commit(telemetry(MOST_WAITING + 1, 1))
        assert journal.waiting == MOST_WAITING
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*given)
        assert journal.waiting == 0

    with_journal(tmp_path, use)


def test_closing_commits_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    async def use() -> None:
        journal = Journal(tmp_path, max_bytes=BYTES, forwarding=False)
        await journal.open()
        given = [journal.commit(telemetry(seq)) for seq in range(1, 11)]
        await journal.close()
        assert [(await each).seq for each in given] == list(range(1, 11))
        with pytest.raises(JournalClosed):
            journal.commit(telemetry(11))

    asyncio.run(use())
    with JournalReader(tmp_path / "journal.db") as reader:
        assert reader.last_seq() == 10


def test_a_damaged_batch_is_named(tmp_path: Path) -> None:
    with_journal(tmp_path, lambda journal: commit_all(journal, telemetry(1), telemetry(2)))
    with sqlite3.connect(tmp_path / "journal.db") as other:
        other.execute("UPDATE batches SET body = x'01aabbcc' WHERE seq = 2")
    other.close()

    async def look(journal: Journal) -> None:
        with pytest.raises(StoreError, match="batch 2: a stored value is damaged"):
            list(journal.replay(0))

    with_journal(tmp_path, look)


# --- housekeeping -------------------------------------------------------------------------------------------


def test_no_checkpoint_comes_before_or_between_the_alarms_that_wait(tmp_path: Path) -> None:
    seen: list[str] = []
    checkpointed = asyncio.Event()

    async def use(journal: Journal) -> None:
        loop = asyncio.get_running_loop()
        told.append(lambda: loop.call_soon_threadsafe(checkpointed.set))
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        given = [journal.commit(telemetry(1, 1_000))]
        given += [journal.commit(alarming(seq)) for seq in range(2, 31)]  # more than makes a checkpoint due
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*given)
        await checkpointed.wait()

    told: list[Callable[[], object]] = []

    def trace(statement: str) -> None:
        if statement == "COMMIT" or "wal_checkpoint" in statement:
            seen.append(statement)
        if "wal_checkpoint" in statement and told:
            told[0]()

    with_journal(tmp_path, use, max_bytes=4 * 1024 * 1024, trace=trace)
    first = next(n for n, statement in enumerate(seen) if "wal_checkpoint" in statement)
    assert seen[:first].count("COMMIT") >= 30


def log_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_the_log_stays_short_where_one_batch_follows_the_other_without_a_pause(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        for seq in range(1, 201):
            await journal.commit(telemetry(seq, 400))
            assert log_bytes(journal.path) < 1.5 * Bounds(4_000_000).wal

    with_journal(tmp_path, use, max_bytes=4_000_000)


def test_while_an_alarm_waits_only_a_full_log_is_checkpointed(tmp_path: Path) -> None:
    bounds = Bounds(16 * 1024 * 1024)
    writer = Writer(tmp_path / "journal.db", bounds, forwarding=False)
    seq = writer.open()
    wal = Path(f"{tmp_path / 'journal.db'}-wal")
    while wal.stat().st_size < bounds.wal // 4:
        seq += 1
        writer.commit(telemetry(seq, 500))
    assert not writer.keep_house(Pressure.ALARM)
    assert not writer.keep_house(Pressure.BATCHES)
    size = 0
    while not writer.figures.checkpoints:
        seq += 1
        writer.commit(telemetry(seq, 500))
        size = wal.stat().st_size
        writer.keep_house(Pressure.ALARM)
    assert bounds.wal * 0.5 < size < bounds.wal * 1.5
    writer.close()


def test_a_batch_of_readings_touches_one_table(tmp_path: Path) -> None:
    seen: list[str] = []
    writer = Writer(tmp_path / "journal.db", Bounds(BYTES), forwarding=False, trace=seen.append)
    writer.open()
    seen.clear()
    writer.commit(telemetry(1))
    assert [statement.split("(")[0].split("VALUES")[0].strip() for statement in seen] == [
        "BEGIN IMMEDIATE", "INSERT INTO batches", "COMMIT"
    ]  # fmt: skip
    writer.close()


def test_a_typical_commit_writes_little(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "journal.db", Bounds(BYTES), forwarding=False)
    writer.open()
    wal = Path(f"{tmp_path / 'journal.db'}-wal")
    writer.commit(telemetry(1))
    before = wal.stat().st_size
    for seq in range(2, 102):
        writer.commit(telemetry(seq))
    assert (wal.stat().st_size - before) / 100 < 12_000
    writer.close()
