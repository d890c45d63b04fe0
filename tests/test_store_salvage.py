"""A damaged journal costs what was damaged and no more, and says so."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.store import damage, salvage, schema
from edge.store.errors import ReadFailed, StoreError
from edge.store.reader import JournalReader
from edge.store.records import GapReason
from edge.store.recovery import recover, replay
from edge.store.retention import Bounds
from edge.store.writer import Writer
from tests.store_samples import everything, time_of

BATCHES = 30
SIZE = 20
AT = time_of(1_000)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of thirty batches, of which the first twenty are in the file and ten in the log."""
    folder = tmp_path_factory.mktemp("sound")
    path = folder / schema.FILE
    writer = Writer(path, Bounds(2**26), forwarding=True)
    writer.open()
    for seq in range(1, BATCHES + 1):
        writer.commit(everything(seq))
        if seq == BATCHES * 2 // 3:
            writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "killed").mkdir()
    for name in (schema.FILE, f"{schema.FILE}-wal"):
        shutil.copy(folder / name, folder / "killed" / name)
    writer.close()
    (folder / "stopped").mkdir()
    shutil.copy(path, folder / "stopped" / schema.FILE)
    return folder


def begin(path: Path) -> list[salvage.Salvaged]:
    """What a start does: look, open, read all that recovery needs; salvage where that shows damage."""
    told = []
    salvage.finish(path)
    torn = salvage.torn_log(path) if damage.look(path) is None else None
    if torn is not None:
        told.append(torn)
    if damage.look(path) is not None or not readable(path):
        told.append(salvage.salvage(path, AT))
    assert readable(path)
    return told


def readable(path: Path) -> bool:
    try:
        with closing(schema.open_writer(path)):
            found = recover(path)
            for _ in replay(path, min(found.snapshot_seq, found.positions.get("readings", 0))):
                pass
    except StoreError as error:
        if not damage.is_damage(error):
            raise
        return False
    return True


def test_a_sound_journal_is_left_alone(sound: Path, tmp_path: Path) -> None:
    for state in ("stopped", "killed"):
        shutil.copytree(sound / state, tmp_path / state)
        before = (tmp_path / state / schema.FILE).read_bytes()
        assert damage.look(tmp_path / state / schema.FILE) is None
        assert salvage.torn_log(tmp_path / state / schema.FILE) is None
        assert (tmp_path / state / schema.FILE).read_bytes() == before
    assert damage.look(tmp_path / "never" / schema.FILE) is None


@pytest.mark.parametrize("seed", range(40))
def test_after_any_damage_the_journal_opens_with_what_is_left_and_tells_what_is_missing(
    sound: Path, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "journal"
    shutil.copytree(sound / ("killed" if seed % 2 else "stopped"), folder)
    path = folder / schema.FILE
    victim = Path(f"{path}-wal") if seed % 4 == 3 else path
    harm(rng, victim)
    told = begin(path)
    with JournalReader(path) as reader:
        gaps = [gap for _, gap in reader.gaps_after(0, 1_000) if gap.reason is GapReason.STORE_DAMAGED]
        forwarded = reader.positions().get("readings", 0)
        left = {batch.seq for batch in reader.batches_after(forwarded, 10**6)}
        wanted = set(range(forwarded + 1, BATCHES + 1))
    if victim == path and not wanted <= left:
        assert gaps, "readings are missing and nothing says so"
    for each in told:
        assert each.kept.exists()
        assert each.message
    writer = Writer(path, Bounds(2**26), forwarding=True)
    last = writer.open()
    writer.commit(everything(last + 500))
    writer.close()


def harm(rng: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    match rng.randrange(4):
        case 0:
            for _ in range(rng.randrange(1, 50)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            start = rng.randrange(len(data))
            data[start : start + 4_096] = bytes(len(data[start : start + 4_096]))
        case _:
            data[: rng.randrange(1, 2_000)] = b"\xff"
    file.write_bytes(data)


def test_a_commit_behind_a_damaged_one_in_the_log_is_told_as_lost(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "killed", tmp_path / "journal")
    path = tmp_path / "journal" / schema.FILE
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    torn = salvage.torn_log(path)
    assert torn is not None
    assert torn.kept.read_bytes() == data
    (gap,) = torn.gaps
    assert gap.reason is GapReason.STORE_DAMAGED
    with JournalReader(path) as reader:
        assert BATCHES * 2 // 3 <= reader.last_seq() < BATCHES
        assert gap.from_ms == time_of(reader.last_seq())


def test_a_crash_in_the_middle_of_a_commit_is_no_damage(sound: Path, tmp_path: Path) -> None:
    for cut in (1, 500, 3_000):
        folder = tmp_path / str(cut)
        shutil.copytree(sound / "killed", folder)
        log = folder / f"{schema.FILE}-wal"
        log.write_bytes(log.read_bytes()[:-cut])
        assert salvage.torn_log(folder / schema.FILE) is None


def test_alarms_that_cannot_be_read_come_back_from_their_history(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "stopped", tmp_path / "journal")
    path = tmp_path / "journal" / schema.FILE
    with JournalReader(path) as reader:
        standing = reader.standing_alarms()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alarms SET body = x'0163'")
        connection.commit()
    with JournalReader(path) as reader, pytest.raises(ReadFailed):
        reader.standing_alarms()
    begin(path)
    with JournalReader(path) as reader:
        assert reader.standing_alarms() == standing


def test_what_is_damaged_is_kept_as_it_was(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "stopped", tmp_path / "journal")
    path = tmp_path / "journal" / schema.FILE
    harmed = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(harmed)
    (told,) = begin(path)
    assert told.kept.read_bytes() == harmed


def test_a_lost_snapshot_leaves_the_batches_to_replay(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "stopped", tmp_path / "journal")
    path = tmp_path / "journal" / schema.FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE snapshot SET header = x'93'")
        connection.execute("UPDATE snapshot_parts SET body = x'0100'")
        connection.commit()
    begin(path)
    found = recover(path)
    assert found.header is None
    assert [batch.seq for batch in replay(path, 0)][-1] == BATCHES


def test_where_the_newest_batches_cannot_be_read_those_before_are_carried_over(
    sound: Path, tmp_path: Path
) -> None:
    path = tmp_path / schema.FILE
    shutil.copy(sound / "stopped" / schema.FILE, path)
    with closing(sqlite3.connect(path)) as connection:  # positions are not all numbers of batches
        connection.execute("INSERT INTO positions VALUES ('clock.boot', ?)", (2**59,))
        connection.execute("INSERT INTO positions VALUES ('clock.offset', ?)", (AT,))
        connection.execute("UPDATE positions SET seq = 0 WHERE name IN ('readings', 'history')")
        connection.execute("DELETE FROM snapshot")
        connection.execute("DELETE FROM snapshot_parts")
        connection.commit()
        (newest,) = connection.execute("SELECT body FROM batches ORDER BY seq DESC LIMIT 1").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    page = data.index(newest) // size * size
    data[page : page + size] = bytes(size)
    path.write_bytes(data)
    [told] = begin(path)
    with JournalReader(path) as reader:
        left = [batch.seq for batch in reader.batches_after(0, 10**6)]
    assert len(left) >= BATCHES // 2
    assert left == list(range(1, len(left) + 1))
    assert told.gaps


def test_a_salvage_killed_between_its_renamings_is_completed(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "stopped", tmp_path / "journal")
    path = tmp_path / "journal" / schema.FILE
    begin_of = path.read_bytes()
    salvage.salvage(path, AT)
    path.rename(path.with_suffix(".salvaged"))
    salvage.finish(path)
    assert readable(path)
    path.rename(path.with_suffix(".salvaged"))
    path.write_bytes(begin_of)
    salvage.finish(path)
    assert readable(path)
    assert path.with_suffix(".damaged-2.db").read_bytes() == begin_of
