"""What people say to the node: that they look after an alarm, that it is over, what a device shall do, other rules.

Each waits until what follows is on disk, or was let go without. Where the engine must be rebuilt first nothing is
taken: it would have to be said again.
"""

import logging
from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from edge.clock import Clock
from edge.committing.commits import Commits
from edge.committing.storing import Storing
from edge.hearing import Hearing
from edge.intake import Intake
from edge.store.errors import StoreError
from edge.store.journal import Journal
from edge.store.records import KeptRules
from edge.succession import Recall, Succession
from rules.alarms import Alarm
from rules.decisions import Acknowledge, Close, Instruction, Order, Withheld
from rules.engine import Engine
from rules.recall import remembered

log = logging.getLogger("anlin.people")


class UndecidedError(Exception):
    """The engine failed at an order of a person: nothing was done. Told by the log and as `cannot_decide`."""


class Spoken(Protocol):
    """To whom it is said: the node. Its intake and commits change with a rebuild."""

    deaf: bool
    store_error: str | None
    intake: Intake
    commits: Commits
    rules: Succession
    journal: Journal

    @property
    def board(self) -> Mapping[str, Alarm]:
        """The alarms that stand, as they were told last."""

    def arm(self) -> None:
        """Wake up when the engine's next deadline comes."""

    async def saved(self) -> bool:
        """Wait until everything said so far is on disk; false if it had to be let go without."""


class People:
    """One for the life of a node."""

    def __init__(self, node: Spoken, clock: Clock, hearing: Hearing) -> None:
        self._node = node
        self._clock = clock
        self._hearing = hearing

    async def acknowledge(self, alarm_id: str, by: str, comment: str) -> Alarm | None:
        """Acknowledge a standing alarm; the alarm after the commit, None if it does not stand.

        Where the store takes nothing it counts all the same, and the alarm says ``durable: false``.
        """
        return await self._order(Acknowledge(alarm_id, by, comment, self._clock.now_ms()))

    async def close(self, alarm_id: str, by: str, comment: str) -> Alarm | None:
        """Take an alarm off the board where only a person can; None if it does not stand."""
        return await self._order(Close(alarm_id, by, comment, self._clock.now_ms()))

    async def _order(self, given: Acknowledge | Close) -> Alarm | None:
        if self._node.deaf:
            raise StoreError(self._node.store_error)
        state = self._node.intake.state
        key = state.keys.get(given.alarm_id)
        if key is None:
            return None
        standing = state.alarms[key]
        decision = self._node.intake.tell(given)
        if decision is None:
            raise UndecidedError(f"the engine failed: {self._node.intake.undecided}")
        if not decision.changes:
            if self._node.board.get(standing.id) != standing:
                durable = await self._node.saved()  # said by somebody else a moment ago, and not on disk yet
                return replace(standing, durable=durable)
            return standing
        self._node.arm()
        durable = await self._node.saved()
        return replace(decision.changes[-1].alarm, durable=durable)

    async def instruct(self, given: Instruction) -> Order | Withheld:
        """Give a person's order, after the commit; or tell why it is withheld. The kind must have the command."""
        if self._node.deaf:
            raise StoreError(self._node.store_error)
        decision = self._node.intake.tell(given)
        if decision is None:
            raise UndecidedError(f"the engine failed: {self._node.intake.undecided}")
        self._node.arm()
        self._node.commits.touched()
        await self._node.saved()
        answers: list[Order | Withheld] = [*decision.orders, *decision.withheld]
        return next(each for each in answers if not each.alarm_id)

    def recall(self, engine: Engine) -> Recall:
        """What windows of ``engine`` would remember had its rules been there; learn it, then `succeed` with it."""
        return Recall(engine, self._node.journal, remembered(self._node.intake.state))

    async def succeed(self, engine: Engine, kept: KeptRules, recall: Recall | None = None) -> bool:
        """Let ``engine`` and its rules hold, from one batch to the next; whether that is on disk.

        Raises `StoreError` and `UndecidedError`: the rules before hold. After a crash at any moment either the one
        or the other rule set holds, with all that it had decided.
        """
        self._refuse_in_need()
        await self._node.commits.drain()
        self._refuse_in_need()
        now = self._hearing.now_awake()
        self._node.rules.begin(engine, kept)
        try:
            self._node.intake.succeed(engine, kept, now, (recall or self.recall(engine)).fill)
        except Exception as failure:  # whatever a rule comes to: the engine must be rebuilt; raised again
            log.exception("the rules could not take over; those before hold")
            self._node.commits.abandon(failure)
            raise UndecidedError(f"the rules could not take over: {failure}") from failure
        saved = self._node.commits.succeed()
        self._node.arm()
        return await saved and self._node.rules.engine is engine

    def _refuse_in_need(self) -> None:
        if self._node.deaf or self._node.rules.under_way or self._node.commits.storing is not Storing.ALL:
            raise StoreError(self._node.store_error or "it does not take everything")
