"""Pieces of a condition: what each gives, how it is evaluated, and what it is made of.

A piece keeps its syntax as checked, in which a term is a name and what `let` names is written out; of that
`rules.language.guards` writes code.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from devices.readings import Scalar
from rules.definitions import Crossing, change_after
from rules.language.logic import Evaluate, all_of, any_of, point_against
from rules.language.logic import compared as comparison
from rules.terms import Growing, Term
from rules.vocabulary import Point, Sort

COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MIRRORED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}


@dataclass(frozen=True, slots=True)
class Made:
    """What a piece is made of."""

    names: frozenset[str] = frozenset()
    terms: Mapping[str, Term] = field(default_factory=dict)
    crossings: tuple[Crossing, ...] = ()
    lets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *parts: "Part") -> "Made":
        """Of all that these are made of."""
        return cls(
            frozenset().union(*(part.made.names for part in parts)),
            {name: term for part in parts for name, term in part.made.terms.items()},
            tuple(crossing for part in parts for crossing in part.made.crossings),
            frozenset().union(*(part.made.lets for part in parts)),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled piece: what it gives, how, and what it is made of."""

    sort: Sort
    evaluate: Evaluate
    tree: ast.expr
    """As checked: names, constants and operators only."""
    made: Made = Made()
    constant: Scalar | None = None
    point: Point | None = None
    """Set where the piece is nothing but this point."""
    growing: Growing | None = None
    """Set where the piece is nothing but this term."""

    @property
    def names(self) -> frozenset[str]:
        """Points, event fields and terms."""
        return self.made.names


def fixed(sort: Sort, value: Scalar) -> Part:
    """A constant."""
    return Part(sort, lambda _values: value, ast.Constant(value), constant=value)


def of_point(point: Point, made: Made, growing: Growing | None = None) -> Part:
    """The value of a point or a term."""
    evaluate = operator.methodcaller("get", point.name)
    return Part(point.sort, evaluate, ast.Name(point.name), made, point=point, growing=growing)


def joined(operation: ast.boolop, parts: Sequence[Part]) -> Part:
    """``and``, ``or``."""
    join = all_of if isinstance(operation, ast.And) else any_of
    tree = ast.BoolOp(operation, [part.tree for part in parts])
    return Part(Sort.BOOLEAN, join([part.evaluate for part in parts]), tree, Made.of(*parts))


def compared(operation: ast.cmpop, left: Part, right: Part) -> Part:
    """A comparison of two pieces that go together; what grows in it is watched for its bound."""
    tree = ast.Compare(left.tree, [operation], [right.tree])
    mirrored = left.constant is not None or right.growing is not None
    one, sign, other = (
        (right, _MIRRORED[type(operation)], left) if mirrored else (left, type(operation), right)
    )
    made = Made.of(left, right)
    if one.growing is not None:
        strict = sign in (ast.Gt, ast.LtE)
        bound = other.constant
        fixed_at = change_after(bound, strict=strict) if isinstance(bound, int | float) else None
        crossing = Crossing(one.growing, other.evaluate, strict, fixed_at, other.names)
        made = replace(made, crossings=(*made.crossings, crossing))
    compare = COMPARISONS[sign]
    if isinstance(one.tree, ast.Name) and other.constant is not None:
        return Part(Sort.BOOLEAN, point_against(one.tree.id, compare, other.constant), tree, made)
    return Part(Sort.BOOLEAN, comparison(compare, one.evaluate, other.evaluate), tree, made)
