"""What a bench says: figures, each with its target, as JSON lines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    """What the project has promised."""

    sense: Literal["<=", ">=", "=="]
    limit: float

    def met_by(self, value: float) -> bool:
        """Whether ``value`` keeps the promise."""
        match self.sense:
            case "<=":
                return value <= self.limit
            case ">=":
                return value >= self.limit
            case "==":
                return value == self.limit

    def __str__(self) -> str:
        sign = {"<=": "≤", ">=": "≥", "==": "="}[self.sense]
        return f"{sign} {shown(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; without a target it is there to explain others."""

    bench: str
    name: str
    value: float
    unit: str
    target: Target | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.met_by(self.value)

    def line(self) -> str:
        """The figure as one line of JSON."""
        target = None if self.target is None else str(self.target)
        said = {
            "bench": self.bench,
            "figure": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "target": target,
            "ok": self.ok,
        }
        return json.dumps(said, ensure_ascii=False)


Tell = Callable[[Figure], None]
"""Where a bench hands over each figure as soon as it has it."""


def at_most(limit: float) -> Target:
    """A target that a smaller figure meets."""
    return Target("<=", limit)


def at_least(limit: float) -> Target:
    """A target that a larger figure meets."""
    return Target(">=", limit)


def exactly(limit: float) -> Target:
    """A target for what is counted."""
    return Target("==", limit)


def shown(value: float) -> str:
    """A number as a person reads it."""
    if value == int(value) or abs(value) >= 1000:  # noqa: PLR2004 - from here on decimals say nothing
        return f"{value:,.0f}"
    return f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
