"""From the store back to a running engine: after a start, a crash or a failed commit.

Snapshot, then the journal rows after it through the same engine. Committed alarms are facts: replay
publishes nothing, and where it disagrees with them they win. Under a changed rule set the journal is only
read for what was last said, and for what new windows need; standing alarms stay, running delays begin anew.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from devices.duplicates import WINDOW_MS
from devices.readings import Address
from edge.intake import Intake
from edge.store.records import RecentId, Recovered, ReplayBatch
from edge.undecided import go_on
from rules.awaited import changed
from rules.decisions import CatchingUp, Input, Listening, time_of
from rules.engine import Engine
from rules.recall import look_back_ms, recall, remembered
from rules.state import State, thaw

log = logging.getLogger("anlin.recovery")


class Source(Protocol):
    """What recovery reads."""

    def recover(self) -> Recovered:
        """Snapshot, standing alarms, outbox, positions."""

    def replay(self, after_seq: int) -> Iterator[ReplayBatch]:
        """The batches after ``after_seq``, in order."""

    def seq_before(self, moment_ms: int) -> int:
        """The newest batch before that moment, 0 if there is none."""

    def recent_ids(self, since_ms: int) -> Iterator[RecentId]:
        """Messages with an ``id`` that came since then."""


def restore_state(engine: Engine, recovered: Recovered, source: Source) -> tuple[State, int, int]:
    """The state as of the last committed batch, how many inputs were replayed, and how often the engine failed."""
    state = thaw(recovered.header, recovered.devices)
    if recovered.header is None:
        state.listening_since = None
    same_rules = recovered.rules_hash in (None, engine.rules.hash)
    engine.derive_deadlines(state)
    known = remembered(state)
    replayed = failures = 0
    for batch in source.replay(recovered.snapshot_seq):
        for given in batch.inputs:
            if same_rules:
                failures += not _step(engine, state, given, time_of(given), first=not failures)
            else:
                engine.learn(state, given)
            replayed += 1
        if same_rules:
            failures += not _step(engine, state, None, batch.now, first=not failures)
        state.now = max(state.now, batch.now)
    if same_rules and set(state.keys) != {alarm.id for alarm in recovered.alarms}:
        log.warning("replay gave other alarms than were committed; the committed ones stand")
    if not same_rules:
        _recall(engine, state, known, source)
    engine.adopt(state, recovered.alarms, recovered.departed)
    state.now = max(state.now, recovered.last_now)
    return state, replayed, failures


def _recall(engine: Engine, state: State, known: frozenset[str], source: Source) -> None:
    """What new windows need of the time before the start."""
    needed = look_back_ms(engine, known)
    if needed:
        batches = source.replay(source.seq_before(state.now - needed))
        recall(engine, state, known, (given for batch in batches for given in batch.inputs))


def _step(engine: Engine, state: State, given: Input | None, now: int, *, first: bool) -> bool:
    """As it was taken live, also where the engine failed then: a fault of ours must not prevent a start.

    False where it failed again, with a log line for the ``first``.
    """
    try:
        if given is None:
            engine.tick(state, now)
        else:
            engine.step(state, given, now)
    except Exception as failure:  # a fault of ours costs this input, not the start
        if first:
            log.exception("the engine failed in replay; what it failed at is left out")
        go_on(engine, state, given, now, failure)
        return False
    return True


def restore(
    intake: Intake,
    recovered: Recovered,
    source: Source,
    begin: Callable[[State], int],
    registered: Iterable[Address] = (),
) -> int:
    """Put the state of the store into ``intake``; returns how many inputs were replayed.

    ``registered`` are the devices that should be heard. ``begin`` gives the time (Unix ms) at which this state goes on,
    at or after the journal's last. The first things in its open batch are that the gateway has not been listening, that
    it has to catch up and, under a changed rule set, what the new rules make of the last readings. All of it happened
    when the journal ends: what ran out since then waits until the backlog has been read. Raises `StoreError`, before
    ``begin`` is called.
    """
    engine = intake.engine
    state, replayed, failures = restore_state(engine, recovered, source)
    # Before the time goes on: from here on nothing is read, so nothing fails that must be undone.
    recent = list(source.recent_ids(recovered.last_now - WINDOW_MS))
    intake.state = state
    intake.counts["undecided"] += failures
    now = begin(state)
    intake.next_outgoing_id = recovered.last_outgoing_id + 1
    for lane, marks in recovered.packets.items():
        intake.packets[lane].committed(marks)
    for message_id, mark_, at in recent:
        if at >= now - WINDOW_MS:
            intake.recent.is_repeat(message_id, mark_, min(at, now))  # the clock may have been set back since
    if state.listening_since is not None:
        intake.tell(Listening(on=False, at=state.now))
    if not state.catching_up:
        intake.tell(CatchingUp(on=True, at=state.now))
    awaited = changed(state, registered, max(now, state.now))
    if awaited is not None:
        intake.tell(awaited)
    if recovered.rules_hash not in (None, engine.rules.hash):
        log.warning("the rules have changed: standing alarms stay, running delays begin anew")
        intake.follow(engine.rejudge(state, now))
    return replayed
