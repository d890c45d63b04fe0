"""The journal's tables, and how its file is opened.

Every change of the tables is a numbered migration in a transaction of its own: a database is before or
after it, whatever happens meanwhile. A database written by a newer Anlin is refused, never guessed at.

The file does not vacuum itself: each page taken or given back would cost another page written (the pointer
map). Freed pages are used again, so the file stays at its largest size; that
size is what `edge.store.retention` bounds.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge.store.errors import StoreUnusable, StoreUnwritable

FILE = "journal.db"
APPLICATION_ID = 0x416E6C69
""""Anli" in the file's header: this database is ours."""

PAGE_SIZE = 1_024
"""A commit writes the pages it touches whole, and half of them for a few bytes. With 50 readings a commit the
disk takes 11 kB at 1,024 bytes a page, 15 at 2,048, 25 at 4,096 (write-ahead log and checkpoints together).
"""
SYNCHRONOUS = "FULL"
"""The WAL is on the disk when a commit returns; with NORMAL a power cut takes back what was acknowledged."""

BUSY_TIMEOUT_S = 5.0
"""Only a reader that recovers the WAL after a crash ever makes the writer wait."""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        # One row a batch; the readings lie here and nowhere else.
        """CREATE TABLE batches (
            seq INTEGER PRIMARY KEY,
            now INTEGER NOT NULL,
            first_at INTEGER NOT NULL,  -- earliest and latest arrival in it, Unix ms
            last_at INTEGER NOT NULL,
            readings INTEGER NOT NULL,
            ids INTEGER NOT NULL,       -- how many of its messages had an id of their own
            packets BLOB,               -- sessions begun and packet marks
            body BLOB                   -- inputs and message ids; null for a batch of other things
        ) STRICT""",
        # The facts of every alarm there ever was. Rows are never deleted.
        """CREATE TABLE alarms (
            id TEXT PRIMARY KEY,
            key TEXT NOT NULL,
            on_board INTEGER NOT NULL,
            version INTEGER NOT NULL,
            updated_seq INTEGER NOT NULL,
            body BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX alarms_on_board ON alarms (id) WHERE on_board",
        # Numbers rise without AUTOINCREMENT (and its extra page), because rows are never deleted.
        """CREATE TABLE alarm_changes (
            number INTEGER PRIMARY KEY,
            alarm_id TEXT NOT NULL,
            version INTEGER NOT NULL,
            transition TEXT NOT NULL,
            at INTEGER NOT NULL,
            body BLOB NOT NULL
        ) STRICT""",
        """CREATE TABLE outbox (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            subject TEXT NOT NULL,
            topic TEXT NOT NULL,
            payload BLOB NOT NULL,
            retain INTEGER NOT NULL,
            expires_at INTEGER
        ) STRICT""",
        """CREATE TABLE orders (
            id TEXT PRIMARY KEY,
            alarm_id TEXT NOT NULL,
            address TEXT NOT NULL,
            command TEXT NOT NULL,
            args BLOB NOT NULL,
            issued_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            status TEXT NOT NULL,
            detail TEXT,
            at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX orders_of_alarm ON orders (alarm_id)",
        # How far each reader of the journal has come.
        "CREATE TABLE positions (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            topic TEXT NOT NULL,
            reason TEXT NOT NULL,
            detail TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            payload BLOB NOT NULL
        ) STRICT""",
        """CREATE TABLE gaps (
            id INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            lane TEXT NOT NULL,
            count INTEGER NOT NULL,
            from_ms INTEGER NOT NULL,
            to_ms INTEGER NOT NULL,
            reason TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            feed TEXT NOT NULL,
            line TEXT NOT NULL,
            status INTEGER NOT NULL,
            words TEXT NOT NULL
        ) STRICT""",
        # The newest snapshot: one row; the states of its devices are those of all parts, later ones winning.
        """CREATE TABLE snapshot (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            seq INTEGER NOT NULL,
            now INTEGER NOT NULL,
            rules_hash TEXT NOT NULL,
            header BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE snapshot_parts (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    ),
    (
        # The rules in force are those of the newest row; written with the snapshot that they begin with.
        """CREATE TABLE rule_sets (
            id INTEGER PRIMARY KEY,
            hash TEXT NOT NULL,
            at INTEGER NOT NULL,
            body BLOB NOT NULL  -- the rule files as they were
        ) STRICT""",
    ),
    (
        # Who gave the orders that no alarm gave.
        """CREATE TABLE order_givers (
            order_id TEXT PRIMARY KEY,
            name TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)
"""The statements that lead from each version to the next; the version is their number."""

VERSION = len(MIGRATIONS)

FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What reading may raise: `sqlite3` cannot even decode the message about a damaged table's text."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the database and migrates it where needed.

    Transactions are begun by hand. Checkpoints never happen by themselves.
    Raises `StoreUnusable` for a file that is damaged, not ours, newer than we are, or cannot be written.
    """
    with _told(path), ExitStack() as undo:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        undo.callback(connection.close)
        _recognise(connection, path)
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnusable(
                f"{path}: no write-ahead log here ({mode}): put data_dir on a local file system"
            )
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        migrate(connection)
        undo.pop_all()
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for any thread. Raises `StoreUnusable`."""
    if not path.exists():
        raise StoreUnusable(f"{path}: there is no journal here: start the gateway once, or name its data_dir")
    with _told(path), ExitStack() as undo:
        try:
            connection = _connect_to_read(path, "mode=ro")
        except sqlite3.Error:
            # Where nothing can be written and no log was left, there is nobody who could write it.
            if os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists():
                raise
            connection = _connect_to_read(path, "mode=ro&immutable=1")
        undo.callback(connection.close)
        version = _recognise(connection, path)
        if version != VERSION:
            raise StoreUnusable(
                f"{path}: its tables are of version {version}, not {VERSION}: start this gateway on it"
            )
        undo.pop_all()
    return connection


def _connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the tables from their version to the newest, one transaction a step."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, statements in enumerate(migrations[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def _recognise(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables; 0 for an empty file."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application != APPLICATION_ID and not (empty and application == version == 0):
        raise StoreUnusable(
            f"{path}: this database is not an Anlin journal: move it away or set another data_dir"
        )
    if version > VERSION:
        raise StoreUnusable(
            f"{path}: written by a newer Anlin (tables {version}, this one knows {VERSION}): "
            "install that version again, or set another data_dir"
        )
    return version


def is_damage(error: Exception) -> bool:
    """Whether the file is damaged, and not the disk unwilling just now."""
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in _DAMAGED or "UTF-8" in str(error)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite says on opening, with the remedy."""
    try:
        yield
    except FAULTS as error:
        if is_damage(error):
            raise StoreUnusable(
                f"{path}: damaged: move it away, the gateway begins a new one ({error})"
            ) from error
        raise StoreUnwritable(
            f"{path}: cannot be used: check that its directory is writable and has room ({error})"
        ) from error
