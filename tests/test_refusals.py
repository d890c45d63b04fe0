"""What the cloud refuses for good is on the gap ledger: one row a minute and feed, none lost in a crash."""

import asyncio
from pathlib import Path

import pytest

from edge.node import Node
from edge.refusals import Refusals
from edge.store.journal import Journal
from edge.store.reader import JournalReader
from edge.store.records import Batch, DeadLetter, Gap, GapReason
from tests.node_world import node_world, rows
from tests.waiting import until

AT = 1_790_000_000_000


class Ledger:
    """Writes rows down."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, int, int, GapReason]] = []

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        self.rows.append((lane, count, from_ms, to_ms, reason))

    def advance(self, feed: str, position: int) -> None:
        pass


def letter(at: int, feed: str = "readings", stamp: str = "") -> DeadLetter:
    return DeadLetter(at, feed, f"charger,device=p1 power=1 {stamp}".rstrip(), 400, "unable to parse")


def test_refusals_of_a_minute_are_one_row_a_feed_with_the_times_of_the_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.refusals.MERGED_S", 0.0)

    async def story() -> None:
        ledger = Ledger()
        refusals = Refusals(ledger, {})
        running = asyncio.create_task(refusals.run())
        for n in range(1_000):
            refusals.add(letter(AT, stamp=str(AT - 5_000 + n)))
        refusals.add(letter(AT, "alarms"))
        refusals.add(letter(AT, "gaps", str(AT)))  # that would be a gap for a gap, for ever
        await until(lambda: ledger.rows)
        assert ledger.rows == [
            ("readings", 1_000, AT - 5_000, AT - 4_001, GapReason.CLOUD_REFUSED),
            ("alarms", 1, AT, AT, GapReason.CLOUD_REFUSED),
        ]
        refusals.add(letter(AT + 1))
        await until(lambda: len(ledger.rows) == 3)
        running.cancel()

    asyncio.run(story())


def test_what_a_crash_left_uncounted_is_counted_at_the_next_start_also_after_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    hour = 3_600_000

    async def story() -> None:
        async with node_world(tmp_path) as world:
            refusals = Refusals(world.node, world.node.positions)
            refuse(world.node, refusals, letter(AT), letter(AT + 1))
            refusals.write()
            await world.node.saved()
            refuse(world.node, refusals, letter(AT - hour, stamp=str(AT + 2)), letter(AT - hour, "alarms"))
            await world.node.saved()
        for _ in range(2):  # a row is written once
            async with node_world(tmp_path) as world:
                Refusals(world.node, world.node.positions).write()
                await world.node.saved()
        assert rows(tmp_path, "SELECT lane, count, from_ms, to_ms, reason FROM gaps ORDER BY id") == [
            ("readings", 2, AT, AT + 1, "cloud_refused"),
            ("readings", 1, AT + 2, AT + 2, "cloud_refused"),
            ("alarms", 1, AT - hour, AT - hour, "cloud_refused"),
        ]

    asyncio.run(story())


def refuse(node: Node, refusals: Refusals, *letters: DeadLetter) -> None:
    """As the bridge's desk does."""
    for each in letters:
        node.intake.batch.dead_letters.append(each)
        refusals.add(each)


def test_the_ledger_keeps_its_newest_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.store.batches.GAPS", 10)

    async def story() -> None:
        async with Journal(tmp_path, max_bytes=10**9, forwarding=False) as journal:
            for seq in range(1, 16):
                gap = Gap(AT, "bulk", seq, AT, AT, GapReason.BROKER_DROPPED)
                await journal.commit(Batch(seq, now=AT, gaps=[gap]))
            with JournalReader(journal.path) as reader:
                assert [gap.count for _, gap in reader.newest_gaps(100)] == list(range(15, 5, -1))
                assert [number for number, _ in reader.gaps_after(0, 100)] == list(range(6, 16))

    asyncio.run(story())
