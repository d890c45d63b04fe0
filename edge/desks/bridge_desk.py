"""What the bridge asks and tells by the control socket: how far it has come, what was refused, how it fares."""

from typing import Annotated

import msgspec

from cloud_bridge.source import Feed
from edge.condition import CloudReport, Condition
from edge.node import Node
from edge.refusals import Refusals
from edge.store.records import DeadLetter

_Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""As large as the journal can hold it."""


class _Feed(msgspec.Struct, frozen=True):
    feed: Feed


class _Advance(msgspec.Struct, frozen=True):
    feed: Feed
    position: _Position


class _DeadLetter(msgspec.Struct, frozen=True):
    feed: Feed
    line: str
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    words: str


class _Damaged(msgspec.Struct, frozen=True):
    reason: str


class _Report(msgspec.Struct, frozen=True):
    status: CloudReport


class BridgeDesk:
    """Keeps the bridge's ledger in the journal of ``node``, and what it reports in ``condition``."""

    def __init__(self, node: Node, condition: Condition, refusals: Refusals) -> None:
        self._node = node
        self._condition = condition
        self._refusals = refusals

    async def position(self, line: bytes) -> object:
        """How far a feed is forwarded."""
        feed = msgspec.json.decode(line, type=_Feed).feed
        return self._node.positions.get(feed.value, 0)

    async def advance(self, line: bytes) -> object:
        """A feed is forwarded so far."""
        given = msgspec.json.decode(line, type=_Advance)
        self._node.advance(given.feed.value, given.position)
        return None

    async def dead_letter(self, line: bytes) -> object:
        """The store refuses a line for good."""
        given = msgspec.json.decode(line, type=_DeadLetter)
        letter = DeadLetter(
            self._node.clock.now_ms(), given.feed.value, given.line, given.status, given.words
        )
        self._node.intake.batch.dead_letters.append(letter)
        self._refusals.add(letter)
        return None

    async def damaged(self, line: bytes) -> object:
        """The journal cannot be read; see `edge.rebuilding.Rebuilding.mend`."""
        await self._node.rebuilding.mend(msgspec.json.decode(line, type=_Damaged).reason)
        return None

    async def report(self, line: bytes) -> object:
        """How the bridge fares."""
        self._condition.cloud = msgspec.json.decode(line, type=_Report).status
        return None
