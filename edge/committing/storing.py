"""How much the store takes, and who is told: words that the ladder, its commits and the node share (docs/adr/0008)."""

import asyncio
import errno
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from devices.topics import Lane
from edge.store.records import Batch, Committed, Gap


class Storing(StrEnum):
    """How much the store takes."""

    ALL = "all"
    ALARMS = "alarms"
    """Everything but readings."""
    NONE = "none"


class Store(Protocol):
    """Where batches go."""

    def commit(self, batch: Batch) -> "asyncio.Future[Committed]":
        """Write one batch in one durable transaction. Batches are written in the order of the calls; after
        a failure every later one fails too, until `reset`.
        """  # noqa: D205

    def reset(self) -> None:
        """Batches given from now on count again."""

    def keep_ballast(self, *, keep: bool) -> None:
        """Give up the room that is kept for alarms, or keep it again as soon as it is there."""

    def has_room(self) -> bool:
        """Whether there is room for readings again, the ballast and a margin beside them."""


@dataclass(slots=True)
class Flight:
    """A batch and what must be done once it is on disk."""

    batch: Batch
    acknowledgements: dict[tuple[Lane, int], list[int]] = field(default_factory=dict)
    taken: Counter[Lane] = field(default_factory=Counter)
    """Messages of each lane, also those that nobody acknowledges."""
    waiters: list["asyncio.Future[bool]"] = field(default_factory=list)
    """Told whether it is durable."""
    forgotten: set[Lane] = field(default_factory=set)
    """Lanes whose session has ended since."""
    told: set[int] = field(default_factory=set)
    """Ids of its publications that have left before the commit."""
    repeats: set[int] = field(default_factory=set)
    """Ids of those that only say again, as durable, what was told before."""
    gaps: list[Gap] = field(default_factory=list)
    """Ours among its gaps: they run on if it fails."""
    succession: bool = False
    """The first batch of a new rule set: if it fails, the rules on disk hold."""
    given: bool = False
    """The store has it and has not answered."""


class Follower(Protocol):
    """What must follow a batch. Called in the event loop, in the order of the decisions."""

    def committed(self, flight: Flight, committed: Committed, *, late: bool) -> None:
        """It is on disk. ``late``: after `unstored` had let it go."""

    def unstored(self, flight: Flight, *, let_go: bool) -> None:
        """It is not on disk and somebody waits: tell of its alarms and orders now, once. ``let_go``: nothing
        waits for the disk any more, so acknowledge too.
        """  # noqa: D205

    def storing(self, storing: Storing, reason: str) -> None:
        """The store takes more or less than before."""

    def failed(self, error: BaseException) -> None:
        """Rebuild the engine from the store; then call `Commits.carried`, or `Commits.go_on` if it cannot be."""


def worth_writing(batch: Batch) -> bool:
    """Packet marks alone are not worth a commit where there is no room."""
    packets, batch.packets = batch.packets, {}
    try:
        return bool(batch.inputs) or not batch.empty
    finally:
        batch.packets = packets


def is_full(error: BaseException | None) -> bool:
    """Whether the disk has no room."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if isinstance(error, OSError):
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        error = error.__cause__
    return False


def resolve(flight: Flight, *, durable: bool, error: BaseException | None = None) -> None:
    """Tell those who wait for it."""
    for waiter in flight.waiters:
        if waiter.done():
            continue
        if error is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(durable)
    flight.waiters = []
