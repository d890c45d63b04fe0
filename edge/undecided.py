"""When the engine fails at one thing: what is kept from it, and how everything else goes on.

A fault in a rule or in the engine must cost the input or the deadline that it lies in, and nothing more. A deadline
that fails is taken off the heap and left out; an input that fails is left out of the journal, so that no replay fails
at it. Live traffic and replay go on in the same way, so they come to the same alarms.
"""

from dataclasses import dataclass, field

from rules.decisions import Decision, Input
from rules.engine import Engine
from rules.state import State


@dataclass(slots=True)
class Undecided:
    """What came of the input or the tick at which the engine failed."""

    decisions: list[Decision] = field(default_factory=list)
    """What was decided all the same, in order."""
    deadlines: list[Exception] = field(default_factory=list)
    """A failure for each deadline that was left out."""
    failure: Exception | None = None
    """Why the input itself could not be judged; None if it was, or if there is none."""


def go_on(engine: Engine, state: State, given: Input | None, now: int, failure: Exception) -> Undecided:
    """After `Engine.step` with ``given``, or `Engine.tick` without, has failed at ``now`` (Unix ms).

    Alarms that were raised before the failure are among the decisions: nothing decided is lost.
    """
    outcome = Undecided()
    innocent = given is not None and state.now < now  # it failed at a deadline before it came to the input
    if given is None or innocent:
        outcome.deadlines.append(failure)
    else:
        outcome.failure = failure
    while True:  # each failure has taken a deadline off the heap
        try:
            outcome.decisions.append(engine.tick(state, now))
            break
        except Exception as error:  # noqa: BLE001 - whatever a rule comes to; it is kept and told by the caller
            outcome.deadlines.append(error)
    if given is not None and innocent:
        try:
            outcome.decisions.append(engine.step(state, given, now))
        except Exception as error:  # noqa: BLE001 - as above
            outcome.failure = error
            outcome.decisions.append(engine.tick(state, now))
    return outcome
