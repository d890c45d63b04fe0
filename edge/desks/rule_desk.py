"""What the control socket can ask about rules: which are in force, and to let others hold.

Whoever applies rules sends the files' texts with the hash of what they are to mean, so what was checked and tried
elsewhere is what holds here, or nothing changes.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from devices.faults import ConfigurationError
from edge.control import Refused
from edge.node import Node
from edge.rulebook import told_faults
from edge.rulewatch import RuleWatch
from edge.store.records import KeptRules, RuleDocument
from rules.definitions import RuleSet
from rules.engine import Engine


class _Apply(msgspec.Struct, frozen=True):
    documents: tuple[RuleDocument, ...]
    hash: str
    """Of the rule set that these are."""
    after: str
    """Of the rule set that was in force when it was decided."""
    listed: tuple[str, ...] | None = None
    """The configuration's list of rule files as it was read then; None: as it was before."""


class RulesReport(msgspec.Struct, frozen=True):
    """The rules in force, for people."""

    hash: str
    rules: int
    since: int | None
    """Unix ms; None where the journal keeps none."""
    on_disk: str | None
    """What the files on disk would change, with what to do; None if nothing."""


class Applied(msgspec.Struct, frozen=True):
    """What came of it."""

    rules: RulesReport
    durable: bool
    """On disk; else they hold until a restart, or from when the store works again."""


class RuleDesk:
    """Answers about the rules of ``node``; ``compiled`` and ``engine_of`` make other rules."""

    def __init__(
        self,
        node: Node,
        compiled: Callable[[Sequence[RuleDocument]], RuleSet],
        engine_of: Callable[[RuleSet], Engine],
        watch: RuleWatch,
    ) -> None:
        self._node = node
        self._compiled = compiled
        self._engine_of = engine_of
        self._watch = watch
        self._turn = asyncio.Lock()

    def report(self) -> RulesReport:
        """What is in force now."""
        rules, kept = self._node.intake.engine.rules, self._node.intake.kept
        since = None if kept is None else kept.at
        return RulesReport(rules.hash, len(rules.rules), since, self._watch.difference)

    async def apply(self, line: bytes) -> object:
        """Let other rules hold. Raises `Refused`: then nothing has changed."""
        given = msgspec.json.decode(line, type=_Apply)
        async with self._turn:
            if self._node.intake.engine.rules.hash != given.after:
                raise Refused(
                    "not_allowed", "other rules were applied meanwhile: look again and say it again"
                )
            try:
                engine = await asyncio.to_thread(self._engine, given.documents)  # readings go on meanwhile
            except ConfigurationError as error:
                raise Refused("bad_request", told_faults(error.faults)) from error
            if engine.rules.hash != given.hash:
                raise Refused(
                    "not_allowed", "the gateway is of another version: restart it, then apply the rules"
                )
            kept = KeptRules(given.hash, self._node.clock.now_ms(), given.documents)
            recall = self._node.people.recall(engine)
            await asyncio.to_thread(recall.learn, kept.at)
            durable = await self._node.people.succeed(engine, kept, recall)
            if given.listed is not None:
                self._watch.follow(given.listed)
            await self._watch.look()
            return Applied(self.report(), durable)

    def _engine(self, documents: tuple[RuleDocument, ...]) -> Engine:
        return self._engine_of(self._compiled(documents))
