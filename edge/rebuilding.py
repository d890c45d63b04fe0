"""After a failed commit the engine is rebuilt from the store, as after a crash; a damaged journal is begun anew first.

Where the store cannot even be read, the engine that is there goes on without it. Nothing that is said meanwhile is
lost: it is not acknowledged, and comes again after the reconnect.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from edge.committing.commits import Commits
from edge.committing.storing import Storing
from edge.health import Code, Troubles
from edge.store.damage import is_damage
from edge.store.errors import JournalDamaged, StoreError
from edge.store.journal import Journal
from edge.store.records import GapReason

log = logging.getLogger("anlin.rebuilding")


class Rebuilt(Protocol):
    """What is rebuilt: the node. While it is `deaf` nothing that is said is taken."""

    deaf: bool
    commits: Commits

    def begin(self, failed: Commits, error: BaseException | None) -> None:
        """From the store to a running engine. Raises `StoreError`; then nothing has changed."""

    def lost(self, lane: str, count: int, from_ms: int, to_ms: int, reason: GapReason) -> None:
        """Put a known loss on record; see `Gap`."""

    def begun(self) -> None:
        """The engine is there again: what was not acknowledged must come again."""

    def arm(self) -> None:
        """Wake up when the engine's next deadline comes."""


class Rebuilding:
    """One for the life of a node."""

    def __init__(
        self, node: Rebuilt, journal: Journal, troubles: Troubles, *, now_ms: Callable[[], int]
    ) -> None:
        self._node = node
        self._journal = journal
        self._troubles = troubles
        self._now_ms = now_ms
        self._due = asyncio.Event()
        self._error: BaseException | None = None
        self._salvages_told = 0

    def failed(self, error: BaseException) -> None:
        """A commit failed with ``error``: rebuild."""
        self._error = error
        log.error("a commit failed; the engine is rebuilt from the store", extra={"reason": str(error)})
        self._due.set()

    async def run(self) -> None:
        """Rebuild whenever a commit has failed."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                self._journal.reset()
                await self._rebuild()
            except Exception as error:  # the task's top: nobody else would rebuild
                self._troubles.failures["rebuilding"] += 1
                log.exception("the engine could not be rebuilt; it goes on without the store")
                self._node.deaf = False
                self._node.commits.go_on(f"{type(error).__name__}: {error}")
                self._node.arm()
            else:
                self._node.begun()

    async def mend(self, reason: str) -> None:
        """Somebody who reads the journal says that it is damaged: begin it anew. Once in a run: then it is the disk."""
        node = self._node
        if node.deaf or self._journal.salvaged or node.commits.storing is not Storing.ALL:
            self._troubles.say(Code.STORE_DAMAGED, reason)
            return
        await node.commits.drain()
        node.commits.abandon(JournalDamaged(reason))

    def tell_salvaged(self) -> None:
        """Say what was done about a damaged journal; the gap of a torn log is put on record here."""
        for each in self._journal.salvaged[self._salvages_told :]:
            log.error("the journal was damaged", extra={"what": each.message})
            self._troubles.say(Code.STORE_DAMAGED, each.message)
            if each.kept.name.endswith("-wal"):
                for gap in each.gaps:
                    self._node.lost(gap.lane, gap.count, gap.from_ms, self._now_ms(), gap.reason)
        self._salvages_told = len(self._journal.salvaged)

    async def _rebuild(self) -> None:
        damaged = isinstance(self._error, StoreError) and is_damage(self._error)
        if not damaged:
            try:
                self._node.begin(self._node.commits, self._error)
            except JournalDamaged:
                damaged = True
        if damaged:
            await self._journal.mend(self._now_ms())
            self._node.begin(self._node.commits, self._error)
            self.tell_salvaged()
