"""A sketch of how values are spread: counts in bins that are ten percent wide, so a quantile is right within five.

Bounded: what is rare joins its neighbour once there are many bins, and all counts are halved from time to time, so the
old is forgotten. Deterministic; built of numbers only, a few bytes a bin in a snapshot.
"""

import sys
from collections.abc import Mapping
from itertools import pairwise
from math import exp, log

BASE = 1.1
"""Ratio of neighbouring bins: a value is off by at most a factor of its square root."""

LEAST = 1e-3
"""What is nearer to zero counts as zero."""

BINS_MOST = 48
"""Together they span a factor of ninety before anything has to join its neighbour."""

ERROR = BASE**0.5 - 1
"""Largest relative error of a quantile where no bins were joined."""

_WIDTH = log(BASE)

_RATIO_MOST = sys.float_info.max

Bins = dict[int, int]
"""Count by number of the bin; zero is 0, negative values have negative numbers."""


def add(bins: Bins, value: float, count: int = 1) -> None:
    """Take a value, finite, ``count`` times."""
    number = _number_of(value)
    bins[number] = bins.get(number, 0) + count
    if len(bins) > BINS_MOST:
        _join(bins)


def quantile(bins: Mapping[int, int], share: float) -> float:
    """The value that ``share`` of those taken do not exceed. There must be one."""
    rank = share * (sum(bins.values()) - 1)
    for number in sorted(bins):
        rank -= bins[number]
        if rank < 0:
            return _value_of(number)
    return _value_of(max(bins))


def halve(bins: Bins) -> None:
    """Let all that was taken so far weigh half; what was seen once is forgotten."""
    for number, count in list(bins.items()):
        if count > 1:
            bins[number] = count // 2
        else:
            del bins[number]


def _number_of(value: float) -> int:
    size = abs(value)
    if size < LEAST:
        return 0
    number = 1 + round(log(min(size / LEAST, _RATIO_MOST)) / _WIDTH)
    return number if value > 0 else -number


def _value_of(number: int) -> float:
    if number == 0:
        return 0.0
    size = LEAST * exp((abs(number) - 1) * _WIDTH)
    return size if number > 0 else -size


def _join(bins: Bins) -> None:
    """Make one of the two neighbours that together are the rarest."""
    numbers = sorted(bins)
    rarest = min(pairwise(numbers), key=lambda pair: bins[pair[0]] + bins[pair[1]])
    few, many = sorted(rarest, key=lambda number: bins[number])
    bins[many] += bins.pop(few)
