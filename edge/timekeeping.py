"""What follows in the node when the time becomes doubtful, known, or another one.

The clock (`edge.clock`) says so; the engine is told by a journaled input, and in the same commit goes what the
store has to move: orders that wait keep what is left of their time, and what was provisional is corrected. What
waits to be sent is moved in memory alike. Nothing is raised, cleared or sent by a step.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import astuple

from devices.readings import Flag
from edge.clock import SLEW_MS, Clock, Footing, Step
from edge.health import Code, Troubles
from edge.intake import Intake
from edge.store.records import ClockSet, Outgoing, Recovered
from rules.alarms import AlarmChange
from rules.decisions import ClockStepped, ClockUntrusted
from rules.state import State
from rules.steps import corrected

log = logging.getLogger("anlin.clock")

WATCH_S = 1.0
"""How often the wall clock is looked at."""

_FOOTING = ("clock.boot", "clock.offset", "clock.slept")
"""Positions: the fields of the clock's `Footing`."""

_UNTRUSTED = "the time is not known: times are provisional, and nothing goes to the cloud store until it is"


class Timekeeper:
    """Tells the engine what `clock` has noticed. One for the life of a node; the intake changes with a rebuild."""

    def __init__(self, clock: Clock, troubles: Troubles) -> None:
        self._clock = clock
        self._troubles = troubles
        self._begun = False
        self._kept: Footing | None = None
        """What is on record, or in the open batch."""
        self._postponed: deque[tuple[int, int]] = deque(maxlen=64)
        """Outgoing rows below this id have so much more time than their batch says."""

    def begin(self, recovered: Recovered, unkept_ms: int, state: State) -> int:
        """The time at which the node goes on: at its start, and when the engine was rebuilt from the store.

        ``unkept_ms``: by how much the clock was set in what the store has not kept.
        """
        provisional = state.provisional_since is not None
        if not self._begun:
            self._begun = True
            self._clock.begin(recovered.last_now, _footing(recovered.positions), provisional=provisional)
        elif unkept_ms:
            self._clock.take_back(unkept_ms, provisional=provisional or self._clock.provisional)
        self._kept = None
        self._postponed.clear()
        return self._clock.now_ms()

    def observe(self, intake: Intake) -> Step | None:
        """Look at the clock and tell the engine what has become of it; the step, if there was one."""
        step = self._clock.observe()
        if step is not None:
            self._set(intake, step)
        elif self._clock.provisional and intake.state.provisional_since is None:
            intake.tell(ClockUntrusted(self._clock.now_ms()))
            log.warning("the time is not known; from now on times are provisional")
        self._keep(self._clock.footing, intake)
        intake.doubt_time(Flag.PROVISIONAL if self._clock.provisional else 0)
        if self._clock.provisional:
            self._troubles.say(Code.CLOCK_UNTRUSTED, _UNTRUSTED)
        else:
            self._troubles.over(Code.CLOCK_UNTRUSTED)
        return step

    def postponed(self, rows: Iterable[Outgoing]) -> list[Outgoing]:
        """``rows`` as committed, with the time that orders among them have now."""
        moved = []
        for row in rows:
            by_ms = sum(by_ms for below, by_ms in self._postponed if row.id < below)
            moved.append(row.postponed(by_ms) if by_ms else row)
        return moved

    def _keep(self, footing: Footing, intake: Intake) -> None:
        """In the batch that tells of a step, so that the journal never says one without the other."""
        kept = self._kept
        if kept is None or abs(footing.offset - kept.offset) > SLEW_MS or footing.slept_ms != kept.slept_ms:
            self._kept = footing
            intake.batch.positions.update(zip(_FOOTING, astuple(footing), strict=True))

    def _set(self, intake: Intake, step: Step) -> None:
        intake.tick(step.at)  # what was due before belongs to the time before
        batch, since, postpone_ms = intake.batch, intake.state.provisional_since, step.postpone_ms
        first_own = batch.outgoing[0].id if batch.outgoing else intake.next_outgoing_id
        self._postponed.append((first_own, postpone_ms))
        batch.outgoing[:] = [row.postponed(postpone_ms) for row in batch.outgoing]
        batch.orders[:] = [order.postponed(postpone_ms) for order in batch.orders]
        if since is not None:
            batch.changes[:] = [_corrected(change, since, step.by_ms) for change in batch.changes]
        batch.clock_sets.append(ClockSet(step.by_ms, postpone_ms, since))
        intake.recent.shift(step.by_ms)
        intake.batch.recent[:] = intake.recent.held()  # what the journal has of them tells the time before
        intake.tell(ClockStepped(step.by_ms, step.at))
        log.warning(
            "the clock was set; what is under way keeps its remaining time",
            extra={"by_ms": step.by_ms, "slept_ms": step.slept_ms, "provisional": since is not None},
        )


def _footing(positions: Mapping[str, int]) -> Footing | None:
    """As it is on record, if it is."""
    kept = [positions[name] for name in _FOOTING if name in positions]
    return Footing(*kept) if len(kept) == len(_FOOTING) else None


def _corrected(change: AlarmChange, since: int, by_ms: int) -> AlarmChange:
    if not change.alarm.provisional:
        return change
    at = change.at if change.at < since else change.at + by_ms
    return AlarmChange(change.transition, corrected(change.alarm, since, by_ms), at)
