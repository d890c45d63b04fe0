"""Closures over three-valued logic: what a checked condition is put together from.

None is unknown: arithmetic with it is unknown, ``false and unknown`` is false, ``true or unknown`` is true
(Kleene's strong logic).
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from devices.readings import Scalar

Values = Mapping[str, Any]
Evaluate = Callable[[Values], Any]


def point_against(name: str, compare: Callable[[Any, Any], Any], bound: Scalar) -> Evaluate:
    """What nearly every rule is: one point against one constant."""

    def against(values: Values) -> bool | None:
        value = values.get(name)
        return None if value is None else compare(value, bound)

    return against


def compared(compare: Callable[[Any, Any], Any], one: Evaluate, other: Evaluate) -> Evaluate:
    """Two values against each other."""

    def comparison(values: Values) -> bool | None:
        a = one(values)
        if a is None:
            return None
        b = other(values)
        return None if b is None else compare(a, b)

    return comparison


def computed(compute: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """Arithmetic; unknown where it gives no finite number."""

    def computation(values: Values) -> float | None:
        a = left(values)
        b = right(values)
        if a is None or b is None:
            return None
        try:
            result: float = compute(a, b)
            return result if isfinite(result) else None
        except (ZeroDivisionError, OverflowError):
            return None

    return computation


def negative(inner: Evaluate) -> Evaluate:
    """A leading minus."""

    def negation(values: Values) -> float | None:
        value: float | None = inner(values)
        return None if value is None else -value

    return negation


def negated(inner: Evaluate) -> Evaluate:
    """``not``."""

    def negation(values: Values) -> bool | None:
        truth = inner(values)
        return None if truth is None else not truth

    return negation


def all_of(parts: Sequence[Evaluate]) -> Evaluate:
    """``and``."""
    if len(parts) == 1:
        return parts[0]
    left, *rest = parts
    right = all_of(rest)

    def both(values: Values) -> bool | None:
        truth: bool | None = left(values)
        if truth:
            return right(values)  # type: ignore[no-any-return]
        if truth is None:
            return False if right(values) is False else None
        return False

    return both


def any_of(parts: Sequence[Evaluate]) -> Evaluate:
    """``or``."""
    if len(parts) == 1:
        return parts[0]
    left, *rest = parts
    right = any_of(rest)

    def either(values: Values) -> bool | None:
        truth: bool | None = left(values)
        if truth:
            return True
        if truth is None:
            return True if right(values) else None
        return right(values)  # type: ignore[no-any-return]

    return either
