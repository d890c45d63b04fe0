"""What a window remembers of its samples, and how its value follows from that without looking at all of them.

A window keeps a row of cells, in order of their moments. A cell is one sample, or all samples that share one of
`CELLS_MOST` equal parts of the window: up to so many evenly spaced samples a window is exact; of more, each counts, but
a whole cell leaves the window at once, with its last sample. So a window is bounded whatever a device says, and a
sample costs the same however long the window is.

What is remembered is a list: the moment of the newest sample, the cells, then what a fold keeps beside them. Moments
are Unix milliseconds of the device's time. Folds hold no state of their own.
"""

from array import array
from dataclasses import dataclass
from typing import Any, Protocol

CELLS_MOST = 120
"""Parts of a window that keep their samples apart."""

_MINUTE_MS = 60_000

Memory = list[Any]
"""``[newest, cells, …]``"""


class Fold(Protocol):
    """One way of making a value of samples."""

    def start(self) -> Memory:
        """What is remembered of no sample."""

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """Take a sample, where it belongs in time."""

    def drop(self, memory: Memory, until: int) -> None:
        """Forget the cells whose last sample is not after ``until``; there is one."""

    def value(self, memory: Memory) -> float | None:
        """Of the samples remembered; None where they do not tell."""


def _place(cells: "array[float]", width: int, moment: int, grain_ms: float) -> tuple[int, bool]:
    """Where a sample belongs, and whether it shares the cell that is there."""
    at = len(cells)
    while at and cells[at - width] > moment:
        at -= width
    part = moment // grain_ms
    if at and cells[at - width] // grain_ms == part:
        return at - width, True
    return at, at < len(cells) and cells[at] // grain_ms == part


def _stale(cells: "array[float]", width: int, until: int) -> int:
    """How many numbers at the front belong to cells that are not after ``until``."""
    at = 0
    while at < len(cells) and cells[at] <= until:
        at += width
    return at


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of all samples. Cells: last moment, count, sum; beside them count, sum and cells dropped.

    A running sum gathers errors; it is made anew whenever as many cells have left as the window holds.
    """

    grain_ms: float

    def start(self) -> Memory:
        """Nothing yet."""
        return [0, array("d"), 0, 0.0, 0]

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """Add it to its cell and to the whole."""
        cells = memory[1]
        memory[2] += 1
        memory[3] += value
        if not cells or moment - cells[-3] >= self.grain_ms:
            cells.extend((moment, 1, value))
            return
        at, shared = _place(cells, 3, moment, self.grain_ms)
        if shared:
            cells[at] = max(cells[at], moment)
            cells[at + 1] += 1
            cells[at + 2] += value
        else:
            cells[at:at] = array("d", (moment, 1, value))

    def drop(self, memory: Memory, until: int) -> None:
        """Take what leaves off the whole."""
        cells = memory[1]
        end = _stale(cells, 3, until)
        for at in range(0, end, 3):
            memory[2] -= int(cells[at + 1])
            memory[3] -= cells[at + 2]
        del cells[:end]
        memory[4] += end
        if memory[4] >= len(cells):
            memory[3], memory[4] = sum(cells[2::3]), 0

    def value(self, memory: Memory) -> float | None:
        """Sum by count."""
        return memory[3] / memory[2] if memory[2] else None


@dataclass(frozen=True, slots=True)
class Count:
    """How many samples are true. Cells: last moment, count; beside them the count of all."""

    grain_ms: float

    def start(self) -> Memory:
        """Nothing yet."""
        return [0, array("d"), 0]

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """A sample that is not true counts for nothing."""
        if not value:
            return
        cells = memory[1]
        memory[2] += 1
        if not cells or moment - cells[-2] >= self.grain_ms:
            cells.extend((moment, 1))
            return
        at, shared = _place(cells, 2, moment, self.grain_ms)
        if shared:
            cells[at] = max(cells[at], moment)
            cells[at + 1] += 1
        else:
            cells[at:at] = array("d", (moment, 1))

    def drop(self, memory: Memory, until: int) -> None:
        """Take what leaves off the whole."""
        cells = memory[1]
        end = _stale(cells, 2, until)
        for at in range(0, end, 2):
            memory[2] -= int(cells[at + 1])
        del cells[:end]

    def value(self, memory: Memory) -> float | None:
        """The count of all."""
        return int(memory[2])


@dataclass(frozen=True, slots=True)
class Extreme:
    """The largest (``sign`` 1) or the smallest (-1) sample. Cells: moment, value.

    A monotonic queue: it keeps only samples that nothing later outdoes, so the first is the answer.
    """

    grain_ms: float
    sign: int

    def start(self) -> Memory:
        """Nothing yet."""
        return [0, array("d")]

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """Keep it unless something later outdoes it; forget what it outdoes."""
        cells, sign, grain_ms = memory[1], self.sign, self.grain_ms
        if not cells or (moment - cells[-2] >= grain_ms and (cells[-1] - value) * sign > 0):
            cells.extend((moment, value))
            return
        end = len(cells)
        while end and cells[end - 2] > moment:
            end -= 2
        if end < len(cells) and (cells[end + 1] - value) * sign >= 0:
            return
        begin = end
        while begin and (value - cells[begin - 1]) * sign >= 0:
            begin -= 2
        part = moment // grain_ms
        if end < len(cells) and cells[end] // grain_ms == part:
            moment, end = int(cells[end]), end + 2
        if begin and cells[begin - 2] // grain_ms == part:
            begin -= 2
            value = cells[begin + 1]
        cells[begin:end] = array("d", (moment, value))

    def drop(self, memory: Memory, until: int) -> None:
        """The next in the queue becomes the answer."""
        cells = memory[1]
        del cells[: _stale(cells, 2, until)]

    def value(self, memory: Memory) -> float | None:
        """The first of the queue."""
        return memory[1][1] if memory[1] else None


@dataclass(frozen=True, slots=True)
class Delta:
    """The newest sample less the oldest; unknown of one. Cells: last moment, its value."""

    grain_ms: float

    def start(self) -> Memory:
        """Nothing yet."""
        return [0, array("d")]

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """Of a cell the last sample is kept."""
        cells = memory[1]
        if not cells or moment - cells[-2] >= self.grain_ms:
            cells.extend((moment, value))
            return
        at, shared = _place(cells, 2, moment, self.grain_ms)
        if not shared:
            cells[at:at] = array("d", (moment, value))
        elif cells[at] <= moment:
            cells[at], cells[at + 1] = moment, value

    def drop(self, memory: Memory, until: int) -> None:
        """The next cell becomes the oldest."""
        cells = memory[1]
        del cells[: _stale(cells, 2, until)]

    def value(self, memory: Memory) -> float | None:
        """Last less first."""
        cells = memory[1]
        return cells[-1] - cells[1] if len(cells) > 2 else None  # noqa: PLR2004 - one cell is two numbers


@dataclass(frozen=True, slots=True)
class Rise:
    """The slope of the least-squares line, per minute; unknown until the samples span ``span_ms``.

    Cells: last moment, count, sum; a cell counts as that many samples of its mean at its last moment.
    Beside them an origin, count, sums of t, v, t·t and t·v (t in minutes after the origin), and cells dropped.
    """

    grain_ms: float
    span_ms: float

    def start(self) -> Memory:
        """Nothing yet."""
        return [0, array("d"), 0, array("d", bytes(40)), 0]

    def add(self, memory: Memory, moment: int, value: float) -> None:
        """Add it to its cell, and what that changes to the whole."""
        cells = memory[1]
        if not cells:
            memory[2] = moment
        if not cells or moment - cells[-3] >= self.grain_ms:
            cells.extend((moment, 1, value))
            _weigh(memory, len(cells) - 3, 1)
            return
        at, shared = _place(cells, 3, moment, self.grain_ms)
        if shared:
            _weigh(memory, at, -1)
            cells[at] = max(cells[at], moment)
            cells[at + 1] += 1
            cells[at + 2] += value
        else:
            cells[at:at] = array("d", (moment, 1, value))
        _weigh(memory, at, 1)

    def drop(self, memory: Memory, until: int) -> None:
        """Take what leaves off the whole."""
        cells = memory[1]
        end = _stale(cells, 3, until)
        for at in range(0, end, 3):
            _weigh(memory, at, -1)
        del cells[:end]
        memory[4] += end
        if memory[4] >= len(cells):
            memory[2:] = [int(cells[0]) if cells else 0, array("d", bytes(40)), 0]
            for at in range(0, len(cells), 3):
                _weigh(memory, at, 1)

    def value(self, memory: Memory) -> float | None:
        """The slope of the line through the cells."""
        cells = memory[1]
        if len(cells) < 6 or cells[-3] - cells[0] < self.span_ms:  # noqa: PLR2004 - two cells are six numbers
            return None
        n, t, v, tt, tv = memory[3]
        below: float = n * tt - t * t
        return (n * tv - t * v) / below if below > 0 else None


def _weigh(memory: Memory, at: int, sign: int) -> None:
    """Put the cell at ``at`` of a `Rise` on the sums, or take it off."""
    cells, sums = memory[1], memory[3]
    n = cells[at + 1]
    t = (cells[at] - memory[2]) / _MINUTE_MS
    v = cells[at + 2] / n
    weight = sign * n
    sums[0] += weight
    sums[1] += weight * t
    sums[2] += weight * v
    sums[3] += weight * t * t
    sums[4] += weight * t * v
