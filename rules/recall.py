"""What terms would remember had their rules always been there: filled from history when rules are new.

The history is learnt by the same code that takes live messages, in a state of its own and without judging; then what
the new terms remember is handed over. Terms that were known before keep what they have.
"""

from collections.abc import Iterable

from rules.decisions import Input
from rules.engine import Engine
from rules.state import State

RECALL_MOST_MS = 3_600_000
"""No more history than this is read again; a longer window fills as time passes."""


def remembered(state: State) -> frozenset[str]:
    """The terms of which any device remembers something."""
    return frozenset(name for device in state.devices.values() for name in device.memory)


def look_back_ms(engine: Engine, known: frozenset[str]) -> int:
    """How much history the terms of these rules need that are not ``known``; 0 if none."""
    terms = (term for rule in engine.rules.rules for term in rule.terms.values())
    longest = max((term.look_back_ms for term in terms if term.name not in known), default=0)
    return min(longest, RECALL_MOST_MS)


def recall(engine: Engine, state: State, known: frozenset[str], history: Iterable[Input]) -> None:
    """Fill in what the terms that are not ``known`` remember of ``history``, which ends where ``state`` is."""
    past = engine.new_state()
    for given in history:
        engine.learn(past, given)
    hand_over(past, state, known)


def hand_over(past: State, state: State, known: frozenset[str]) -> None:
    """Give the terms of ``state`` that are not ``known`` what they remember in ``past``, which ends where it is."""
    for address, before in past.devices.items():
        device = state.devices.get(address)
        if device is None:
            continue
        for name in before.memory.keys() - known:
            device.memory[name] = before.memory[name]
            device.changed, device.lull = True, None
            if name in before.points:
                device.points[name] = before.points[name]
            else:
                device.points.pop(name, None)
