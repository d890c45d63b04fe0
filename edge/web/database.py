"""The gateway's database as the web process reads it: one thread, short queries, never a write.

Requests queue behind each other instead of behind SQLite, and the event loop never waits for a disk. A
database that failed is opened anew by the next query, so the web needs no restart when the disk is back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from edge.store.errors import StoreError
from edge.store.reader import JournalReader

_T = TypeVar("_T")


class DatabaseAwayError(Exception):
    """The database cannot be read now."""


class Database:
    """Runs queries on the journal in ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal: JournalReader | None = None
        self._thread = ThreadPoolExecutor(1, "database")

    async def read(self, query: Callable[[JournalReader], _T]) -> _T:
        """What ``query`` gives.

        Raises:
            DatabaseAwayError: there is no database, or it cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    async def close(self) -> None:
        """Let go of the file, after the query that runs."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown()

    def _run(self, query: Callable[[JournalReader], _T]) -> _T:
        try:
            return query(self._opened())
        except StoreError as error:
            self._let_go()
            raise DatabaseAwayError(str(error)) from error

    def _opened(self) -> JournalReader:
        if self._journal is None:
            journal = JournalReader(self._path, follow=True)
            journal.open()
            self._journal = journal
        return self._journal

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
