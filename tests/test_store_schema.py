"""The journal's file: how it is set up, and which files are refused."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge.store import schema
from edge.store.errors import StoreUnusable
from edge.store.reader import JournalReader


def test_a_commit_is_synchronous_and_checkpoints_are_ours(tmp_path: Path) -> None:
    connection = schema.open_writer(tmp_path / "journal.db")

    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("wal_autocheckpoint") == 0
    assert pragma("foreign_keys") == 1
    assert pragma("page_size") == schema.PAGE_SIZE
    assert pragma("auto_vacuum") == 0
    assert pragma("user_version") == schema.VERSION
    assert pragma("application_id") == schema.APPLICATION_ID
    connection.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    schema.open_writer(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StoreUnusable, match=r"journal\.db: written by a newer Anlin .* install that version"):
        schema.open_writer(path)
    with pytest.raises(StoreUnusable, match="newer"):
        JournalReader(path).open()


def test_a_database_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="not an Anlin journal: move it away"):
        schema.open_writer(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is not a database at all, but it is long enough to be one." * 100)
    with pytest.raises(StoreUnusable, match="damaged: move it away"):
        schema.open_writer(path)


def test_a_database_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    schema.open_writer(path).close()
    os.truncate(path, schema.PAGE_SIZE + 100)
    with pytest.raises(StoreUnusable, match="damaged: move it away"):
        schema.open_writer(path)


def test_a_reader_without_a_journal_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no journal here"):
        JournalReader(tmp_path / "journal.db").open()


def test_a_reader_refuses_tables_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    schema.open_writer(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(StoreUnusable, match="version 0, not"):
        JournalReader(path).open()


# Opens the journal in one child process after another; each kills itself before its k-th statement.
MIGRATING = """
import os, signal, sqlite3, sys
from pathlib import Path
from edge.store import schema

LATER = (*schema.MIGRATIONS, ("CREATE TABLE later (id INTEGER)", "INSERT INTO later VALUES (1)"))
MIGRATIONS = {"first": schema.MIGRATIONS, "later": LATER}[sys.argv[2]]

def migrate(path, die_at):
    left = die_at
    def trace(_):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.set_trace_callback(trace)
    schema.migrate(connection, MIGRATIONS)

for k in range(1000):
    path = Path(sys.argv[1]) / f"{k}.db"
    if sys.argv[2] == "later":
        schema.open_writer(path).close()
    pid = os.fork()
    if pid == 0:
        migrate(path, k)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
print(k)
"""


@pytest.mark.parametrize(
    ("which", "before", "after"),
    [("first", 0, schema.VERSION), ("later", schema.VERSION, schema.VERSION + 1)],
)
def test_a_migration_killed_at_any_statement_is_whole_or_has_not_happened(
    tmp_path: Path, which: str, before: int, after: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MIGRATING, str(tmp_path), which], check=True, capture_output=True, text=True
    )
    tries = int(done.stdout)
    assert tries >= 5
    for k in range(tries + 1):
        connection = sqlite3.connect(tmp_path / f"{k}.db", isolation_level=None)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        }
        assert before <= version <= after
        assert (version == after) == (k == tries)
        assert ("batches" in tables) == (version >= 1)
        assert ("rule_sets" in tables) == (version >= 2)
        assert ("later" in tables) == (version > schema.VERSION)
        connection.close()
        if version <= schema.VERSION:
            reopened = schema.open_writer(tmp_path / f"{k}.db")
            assert reopened.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
            reopened.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from edge.store import schema

schema.open_writer(Path(sys.argv[1])).execute("INSERT INTO positions VALUES ('readings', 7)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_journal_of_a_killed_process_is_opened_by_the_next(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "journal.db")], check=False)
    assert killed.returncode == -signal.SIGKILL
    with JournalReader(tmp_path / "journal.db") as reader:
        assert reader.positions() == {"readings": 7}
