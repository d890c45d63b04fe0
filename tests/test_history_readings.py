"""The history gives back exactly what the journal was given, whatever is compacted, killed or removed meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.kinds import KINDS
from devices.readings import Address, Channel, Flag, Reading
from edge.history.catalogue import folder_of, parts_in, taken
from edge.history.columns import readings_of, table_of
from edge.history.compaction import Limits, compact
from edge.history.errors import PartDamaged
from edge.history.parts import in_order, of_device
from edge.history.readings import readings
from edge.store.records import Snapshot
from edge.store.writer import Pressure
from rules.decisions import ClockStepped, ClockUntrusted
from tests.history_world import EVER, PLENTY, START, Told, given_back, same, spoken

ROOT = Path(__file__).resolve().parent.parent
POINTS = sorted({name for kind in KINDS.values() for name in kind.telemetry.__struct_fields__})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXTS
USUAL = st.fixed_dictionaries(
    {
        "voltage": st.floats(0, 500) | st.integers(0, 500),
        "status": st.sampled_from(["Charging", "Available"]),
    },
    optional={"floor": st.integers(-20, 200), "smoke": st.booleans(), "session": TEXTS},
)
VALUES = USUAL | st.dictionaries(st.sampled_from(POINTS) | TEXTS, SCALARS, max_size=4)
READINGS = st.builds(
    Reading,
    st.sampled_from(Channel),
    st.sampled_from(
        [Address(f"c1/{kind}/{n}") for kind in ("charger", "smoke", "gateway") for n in range(4)]
    ),
    VALUES,
    st.integers(START - 10**7, START + 10**7),
    st.integers(START, START + 10**7),
    st.sampled_from([0, Flag.LATE, Flag.CLOCK_DOUBTED | Flag.RETAINED]),
    st.none() | TEXTS,
    st.none() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | TEXTS,
    st.none() | st.dictionaries(TEXTS, SCALARS | st.none() | st.lists(SCALARS, max_size=2), max_size=2),
)


@given(st.lists(READINGS, min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_columns_hold_all_of_a_reading(given_readings: list[Reading]) -> None:
    same(readings_of(table_of([(1, given_readings)])), given_readings)


@given(
    st.lists(
        st.tuples(st.lists(READINGS, max_size=6), st.sampled_from(["", "", "compact", "small"])),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=20, deadline=None)
def test_readings_are_what_the_journal_was_given_in_its_order_whenever_it_is_compacted(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[list[Reading], str]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    told = Told(folder)
    for batch, then in story:
        told.commit(batch)
        if then:
            compact(folder, PLENTY)
            same(given_back(folder), told.readings)
    same(given_back(folder), told.readings)
    middle = START + 5 * 10**6
    same(given_back(folder, 0, middle), [each for each in told.readings if each.received_at < middle])
    same(given_back(folder, middle), [each for each in told.readings if each.received_at >= middle])
    told.writer.close()


def test_small_parts_become_larger_ones_and_every_device_is_in_one_shard(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 101):
        told.commit(spoken(seq))
        outcome = compact(tmp_path, PLENTY)
        assert (outcome.taken, outcome.behind, outcome.new) == (seq, 0, 20)
    found = parts_in(folder_of(tmp_path))
    assert len(found) <= 12
    assert sum(part.readings for part in found) == 2_000
    assert [part.first for part in found] == [1, *(part.last + 1 for part in found[:-1])]
    same(given_back(tmp_path), told.readings)
    shards = [list(readings(tmp_path, 0, EVER, shard=shard, shards=3)) for shard in range(3)]
    flat = [[reading for chunk in shard for reading in chunk] for shard in shards]
    assert sum(map(len, flat)) == 2_000
    for one in flat:
        mine = {reading.address for reading in one}
        same(one, [reading for reading in told.readings if reading.address in mine])
    last = readings(tmp_path, 0, EVER, shard=1, shard_of=lambda address: int(address.endswith("3")))
    assert {reading.address[-1] for chunk in last for reading in chunk} == {"3"}
    told.writer.close()


def test_the_history_goes_on_where_the_journal_has_dropped_what_was_taken(tmp_path: Path) -> None:
    told = Told(tmp_path, max_bytes=300_000)
    for seq in range(1, 301):
        told.commit(spoken(seq, 200), snapshot=Snapshot("rules", b"", []) if seq % 10 == 0 else None)
        told.writer.keep_house(Pressure.BATCHES)
        if seq % 40 == 0:
            compact(tmp_path, PLENTY)
    assert told.writer.figures.removed > 0
    same(given_back(tmp_path), told.readings)
    told.writer.close()


def test_while_it_is_read_parts_may_be_joined_and_more_may_be_compacted(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 21):
        told.commit(spoken(seq))
        if seq in (5, 7, 9):
            compact(tmp_path, PLENTY)
    found: list[Reading] = []
    for chunk in readings(tmp_path, 0, EVER):
        found += chunk
        if len(found) in (100, 140):
            compact(tmp_path, PLENTY)
            told.commit(spoken(told.seq + 1))
    same(found, told.readings)
    told.writer.close()


def test_readings_of_a_time_that_was_not_known_wait_and_come_with_their_right_times(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.commit([*spoken(1), ClockUntrusted(START + 1_000)])
    early = Reading(
        Channel.EVENT, Address("c1/button/b1"), {"action": "test"}, START, START, Flag.PROVISIONAL
    )
    told.commit([early])
    told.commit(spoken(2))
    assert compact(tmp_path, PLENTY).taken == 1
    same(given_back(tmp_path), spoken(1))
    for _ in range(3):
        told.commit([early] * 15_000)  # more than one look at the journal sees
    told.commit([ClockStepped(3_600_000, START)])
    right = Reading(
        Channel.EVENT, Address("c1/button/b1"), {"action": "test"}, START + 3_600_000, START + 3_600_000
    )
    expected = [*spoken(1), right, *spoken(2), *[right] * 45_000]
    same(given_back(tmp_path), expected)
    assert compact(tmp_path, PLENTY).behind == 0
    same(given_back(tmp_path), expected)
    told.writer.close()


def test_whoever_reads_parquet_finds_points_as_columns_sorted_by_device_and_time(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in (1, 2, 3):
        told.commit(spoken(seq))
        compact(tmp_path, PLENTY)
    (folder_of(tmp_path) / "_unfinished-1-4").write_bytes(b"half")
    table = pq.read_table(folder_of(tmp_path), filters=[("address", "==", "c1/smoke/sm0007")])
    mine = sorted(
        (each.source_time, each.values["density"]) for each in told.readings if each.address[-4:] == "0007"
    )
    moments = [moment.timestamp() * 1_000 for moment in table["source_time"].to_pylist()]
    assert sorted(zip(moments, table["density"].to_pylist(), strict=True)) == mine
    (part,) = parts_in(folder_of(tmp_path))[:1]
    whole = pq.read_table(part.path)
    order = list(zip(whole["address"].to_pylist(), whole["source_time"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert {"temperature", "voltage", "action", "door"} <= set(whole.column_names)
    told.writer.close()


def test_too_old_and_too_much_go_part_by_part_the_oldest_first_and_never_the_newest(tmp_path: Path) -> None:
    told = Told(tmp_path)
    day = 86_400_000
    for number in range(6):
        at = START + number * day
        told.commit([Reading(Channel.STATUS, Address("c1/smoke/s1"), {"state": "online"}, at, at)])
        compact(tmp_path, PLENTY)
    compact(tmp_path, Limits(max_days=2, max_bytes=10**12, room_bytes=0))
    assert [part.first for part in parts_in(folder_of(tmp_path))] == [4, 5, 6]
    outcome = compact(tmp_path, Limits(max_days=2, max_bytes=1, room_bytes=0))
    assert (outcome.parts, outcome.taken, taken(folder_of(tmp_path))) == (1, 6, 6)
    same(given_back(tmp_path), told.readings[-1:])
    told.writer.close()


def test_a_part_with_a_wrong_bit_anywhere_is_damaged_and_never_something_else(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 30):
        told.commit(spoken(seq, 100))
    compact(tmp_path, PLENTY)
    (part,) = parts_in(folder_of(tmp_path))
    good, found = part.path.read_bytes(), set[bool]()
    one, right = Address("c1/smoke/sm0007"), given_back(tmp_path)
    mine = of_device(part.path, one, 0, EVER)
    for bit in range(3, len(good) * 8, len(good) * 8 // 120):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        broken = tmp_path / f"{bit}.parquet"  # footers are remembered by their path
        broken.write_bytes(bad)
        try:
            assert of_device(broken, one, 0, EVER) == mine
            assert [each for some in in_order(broken, 0, EVER, after=0, mine=bool) for each in some] == right
        except PartDamaged:
            found.add(True)
        else:
            found.add(False)  # nobody looks at that one
    assert found == {True, False}
    told.writer.close()


def test_a_part_that_the_disk_has_changed_is_put_aside_and_the_bounds_hold(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 4):
        told.commit(spoken(seq, 200))
        compact(tmp_path, PLENTY)
    broken = parts_in(folder_of(tmp_path))[1].path
    content = bytearray(broken.read_bytes())
    content[64:128] = bytes(64)  # its end, which says what is where, is whole
    broken.write_bytes(content)
    told.commit(spoken(4, 200))
    outcome = compact(tmp_path, Limits(max_days=90, max_bytes=1, room_bytes=0))
    assert (outcome.damaged, outcome.parts) == (1, 1)
    told.writer.close()


def test_killed_at_any_touch_of_the_disk_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 4):
        told.commit(spoken(seq))
        compact(tmp_path, PLENTY)
    told.commit(spoken(4))
    ended = 0
    dying = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from edge.history.compaction import compact\n"
        "from tests.history_world import PLENTY\n"
        "from tests.test_history_readings import die_after\n"
        "for k in range(200):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        die_after(k)\n"
        "        compact(Path(sys.argv[1]), PLENTY)\n"
        "        os._exit(0)\n"
        "    print(os.waitpid(pid, 0)[1], flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", dying, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        while ended < 3:
            code = int(process.stdout.readline())
            assert code in (0, signal.SIGKILL)
            ended += code == 0
            same(given_back(tmp_path), told.readings)
            if code == 0:
                told.commit(spoken(told.seq + 1))
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    same(given_back(tmp_path), told.readings)
    told.writer.close()


def die_after(touches: int) -> None:
    """Kill this process at its next touch of the history after so many of them."""
    left = touches

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.scandir") and "history" in str(arguments[0]):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
