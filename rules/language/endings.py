"""Whether a rule can come true and end at all, as far as its conditions alone tell.

Conditions that compare points with constants have the same truth between two neighbouring constants, so one value of
each such stretch stands for all: every combination is looked at, and what holds for all of them is proven. Where two
points are compared with each other or are added up nothing is said, nor where there are too many combinations.

A `clear` that is written the wrong way round is the mistake that nobody notices before the fire: its alarm never
ends, or ends when it gets worse.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from math import prod

from devices.readings import Scalar
from rules.definitions import Condition
from rules.language.entries import Entry
from rules.language.syntax import CONTRARY
from rules.vocabulary import Point, Sort, Vocabulary

COMBINATIONS_MOST = 4_096

_NEVER = {
    "when": "can never be true, so the alarm would never be raised: correct it",
    "clear": "can never be true, so the alarm would never end: correct it, or leave it out",
    "cancel": "can never be true, so nobody could take it back: correct it, or leave it out",
}
_OTHER_WORD = "\x00"
"""Stands for every word that no condition names."""


def check_truths(
    entry: Entry, vocabulary: Vocabulary, when: Condition, clear: Condition | None, cancel: Condition | None
) -> None:
    """Refuse what is provably never true, and a `clear` that can never end the alarm, or the wrong way round."""
    never = False
    for key, condition in (("when", when), ("clear", clear), ("cancel", cancel)):
        if condition is not None and _is_never(vocabulary, condition):
            entry.fault(key, _NEVER[key], value=condition.source)
            never = True
    if never or clear is None or (stretches := _stretches(vocabulary, when, clear)) is None:
        return
    combinations = list(_combinations(stretches))
    raising = [values for values in combinations if when.evaluate(values)]
    ending = [values for values in combinations if clear.evaluate(values)]
    covers = all(clear.evaluate(values) for values in raising)
    if all(when.evaluate(values) for values in ending):
        reason = "is true only while `when` is, so the alarm would never end"
    elif covers and len(stretches) == 1 and len(ending) < len(combinations):
        reason = "is the wrong way round: true wherever `when` is, and not beyond"
    else:
        return
    # Of the two the contrary of `clear` is meant, where that is never so while `when` is.
    meant = (_contrary(clear) if covers else None) or _contrary(when)
    remedy = (
        "; leave it out, and the alarm ends when `when` does" if meant is None else f"; did you mean {meant}?"
    )
    entry.fault("clear", reason + remedy, value=clear.source)


def _is_never(vocabulary: Vocabulary, condition: Condition) -> bool:
    stretches = _stretches(vocabulary, condition)
    if stretches is None:
        return False
    return not any(condition.evaluate(values) for values in _combinations(stretches))


def _contrary(condition: Condition) -> str | None:
    """Of a plain comparison."""
    match condition.tree:
        case ast.Compare(left=ast.Name() as name, ops=[sign], comparators=[bound]):
            return ast.unparse(ast.Compare(name, [CONTRARY[type(sign)]], [bound]))
    return None


def _combinations(stretches: Mapping[str, Sequence[Scalar]]) -> Iterator[dict[str, Scalar]]:
    for values in product(*stretches.values()):
        yield dict(zip(stretches, values, strict=True))


def _stretches(vocabulary: Vocabulary, *conditions: Condition) -> dict[str, Sequence[Scalar]] | None:
    """A value of each stretch, by name; None where the conditions are not that plain."""
    known = dict(vocabulary.points)
    constants: dict[str, set[Scalar]] = {}
    for condition in conditions:
        known |= {term.name: term.point for term in condition.terms}
        if not all(name in known for name in condition.names) or not _gather(condition.tree, constants):
            return None
    found = {name: _values(known[name], values) for name, values in constants.items()}
    return found if prod(map(len, found.values())) <= COMBINATIONS_MOST else None


def _gather(node: ast.expr, constants: dict[str, set[Scalar]]) -> bool:
    """Note what each name is compared with; false where something else is done with one."""
    match node:
        case ast.BoolOp(values=values):
            return all(_gather(value, constants) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _gather(operand, constants)
        case ast.Name(id=name):
            constants.setdefault(name, set())
            return True
        case ast.Compare(left=left, comparators=others):
            return all(_gather_pair(one, other, constants) for one, other in pairwise([left, *others]))
    return False


def _gather_pair(one: ast.expr, other: ast.expr, constants: dict[str, set[Scalar]]) -> bool:
    for name, bound in ((one, other), (other, one)):
        if isinstance(name, ast.Name) and name.id not in _TRUTHS and (value := _constant(bound)) is not None:
            constants.setdefault(name.id, set()).add(value)
            return True
    return False


_TRUTHS = {"true": True, "false": False}


def _constant(node: ast.expr) -> Scalar | None:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            return _TRUTHS.get(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    return None


def _values(point: Point, constants: set[Scalar]) -> Sequence[Scalar]:
    match point.sort:
        case Sort.BOOLEAN:
            return (False, True)
        case Sort.CHOICE:
            return sorted(point.choices)
        case Sort.TEXT:
            return [*sorted(map(str, constants)), _OTHER_WORD]
    bounds = sorted(each for each in constants if isinstance(each, int | float))
    ends = [each for each in (point.least, point.most) if each is not None]
    bounds = sorted({*bounds, *ends}) or [0]
    between = [(low + high) / 2 for low, high in pairwise(bounds)]
    beyond = [
        *([bounds[0] - 1] if point.least is None else []),
        *([bounds[-1] + 1] if point.most is None else []),
    ]
    return sorted({*bounds, *between, *beyond})
