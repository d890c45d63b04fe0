"""Which engine judges in this node, and which rules it has: those that the journal says are in force.

While another rule set is on its way to the disk both are known, because only the store can say which of them a failed
commit has left. Values and choices; the swap itself is `edge.people.People.succeed`.
"""

import logging
from collections.abc import Iterable

from edge.store.journal import Journal
from edge.store.records import KeptRules, Recovered
from rules.decisions import Input
from rules.engine import Engine
from rules.recall import hand_over, look_back_ms
from rules.state import State

log = logging.getLogger("anlin.rules")


class Recall:
    """What the windows of new rules would remember, learnt from the journal beside the event loop.

    ``known`` are the terms that need it not (`rules.recall.remembered`).
    """

    def __init__(self, engine: Engine, journal: Journal, known: frozenset[str]) -> None:
        self._engine = engine
        self._journal = journal
        self._known = known
        self._past = engine.new_state()
        self._needed = look_back_ms(engine, known)
        self._seq: int | None = None

    def learn(self, now: int) -> None:
        """Read so much of the journal as is needed at ``now`` (Unix ms). Blocks; raises `StoreError`."""
        if self._needed:
            self._go_on(self._journal.seq_before(now - self._needed))

    def fill(self, state: State, newest: Iterable[Input]) -> None:
        """Give it to ``state``, whose inputs are in the journal but for the ``newest``. Raises `StoreError`.

        Blocks for as long as what came since `learn` takes.
        """
        if not self._needed:
            return
        if self._seq is None:
            self.learn(state.now)
        else:
            self._go_on(self._seq)
        for given in newest:
            self._engine.learn(self._past, given)
        hand_over(self._past, state, self._known)

    def _go_on(self, seq: int) -> None:
        self._seq = seq
        for batch in self._journal.replay(seq):
            for given in batch.inputs:
                self._engine.learn(self._past, given)
            self._seq = batch.seq


class Succession:
    """``engine`` and ``kept`` are in force: on the disk, or about to be at a first start."""

    def __init__(self, engine: Engine, kept: KeptRules | None) -> None:
        self.engine = engine
        self.kept = kept
        self._next: tuple[Engine, KeptRules] | None = None

    @property
    def under_way(self) -> bool:
        """Another rule set judges and is not on the disk yet."""
        return self._next is not None

    def begin(self, engine: Engine, kept: KeptRules) -> None:
        """From now on ``engine`` judges; it is in force when it is `committed`."""
        self._next = engine, kept

    def committed(self, kept: KeptRules) -> None:
        """A batch is on the disk from which these rules hold."""
        if self._next is not None and self._next[1].hash == kept.hash:
            self.engine, self.kept = self._next
            self._next = None
            log.warning("other rules are in force", extra={"rules": kept.hash[:12]})

    def found(self, recovered: Recovered) -> None:
        """The engine is rebuilt from the store, which knows."""
        if self._next is not None and recovered.rules_hash == self._next[0].rules.hash:
            self.committed(self._next[1])
        elif self._next is not None:
            self._next = None
            log.error("the rules that were applied could not be stored; those before hold")

    def must_be_kept(self, recovered: Recovered) -> bool:
        """Whether the journal must be told which rules the batches after it are judged by."""
        if recovered.rules_hash != self.engine.rules.hash:
            return True
        return self.kept is not None and (recovered.rules is None or recovered.rules.hash != self.kept.hash)
