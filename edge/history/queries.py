"""What a device said: a question, and its answer out of parts and the journal's newest minutes together.

Times are event times. Raw readings come in their order, a page at a time; with a step, numbers become their least,
mean and greatest, and everything its last. What is given is complete as of the moment of the answer: no reading is
missing between the parts and the journal, none is there twice, whatever is compacted meanwhile.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from devices.readings import Address, Channel, Reading, Scalar
from edge.history.catalogue import Part, folder_of, parts_in, taken
from edge.history.errors import HistoryError
from edge.history.parts import of_device
from edge.history.tail import Tail

TRIES = 5
"""The compaction may move what is being read, once every few minutes."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Whose readings, from when (inclusive) to when (exclusive), Unix ms."""

    address: Address
    from_ms: int
    to_ms: int
    points: list[str] | None = None
    """Only these; readings without any of them are left out."""
    step_ms: int | None = None
    limit: int = 1_000
    """Of raw readings."""
    skip: int = 0
    """So many at ``from_ms`` itself were given on the page before."""


class Item(msgspec.Struct, frozen=True):
    """A reading as the API shows it."""

    source_time: int
    received_at: int
    channel: str
    values: dict[str, Scalar]
    flags: int
    id: str | None
    ts: int | float | str | None
    extra: dict[str, object] | None


class Summary(msgspec.Struct):
    """What one point was in one step."""

    count: int
    last: Scalar
    min: float | None
    """Least, mean and greatest of a number; null of everything else."""
    mean: float | None
    max: float | None


class Step(msgspec.Struct, frozen=True):
    """One step in which something was said."""

    at: int
    """When it begins, Unix ms."""
    points: dict[str, Summary]


class Page(msgspec.Struct, frozen=True):
    """What the API answers."""

    items: list[Item] | list[Step]
    next: str | None = None


class _Moved(Exception):
    """What is asked about was compacted, joined or removed meanwhile."""


def answer(data_dir: Path, tail: Tail, question: Question) -> Page:
    """The page. Raises `HistoryError` and `edge.store.errors.ReadFailed`."""
    for _ in range(TRIES):
        with suppress(_Moved):
            found = _Found(data_dir, tail, question)
            return _steps(found, question) if question.step_ms is not None else _raw(found, question)
    raise HistoryError("the history is being moved about: ask again")


class _Found:
    """The readings that a question is about, in pieces that are sorted by event time."""

    def __init__(self, data_dir: Path, tail: Tail, question: Question) -> None:
        self._folder = folder_of(data_dir)
        self._tail = tail
        self._question = question

    def pieces(self) -> Iterator[tuple[int, list[Reading]]]:
        """Each with an event time that nothing in the later ones lies before. Raises `_Moved`."""
        question, done = self._question, taken(self._folder)
        parts = [part for part in parts_in(self._folder) if part.touches(question.from_ms, question.to_ms)]
        parts.sort(key=_begin)
        floors = [*map(_begin, parts), question.to_ms]
        yield floors[0], self._newest(done)
        for part, floor in zip(parts, floors[1:], strict=True):
            try:
                found = of_device(part.path, question.address, question.from_ms, question.to_ms)
            except FileNotFoundError as error:
                raise _Moved from error
            yield floor, found

    def _newest(self, done: int) -> list[Reading]:
        """What lies in the journal only, by event time."""
        question = self._question
        found = self._tail.of_device(question.address, done)
        if taken(self._folder) != done:
            raise _Moved
        mine = [each for each in found if question.from_ms <= each.source_time < question.to_ms]
        return sorted(mine, key=_moments)


def _raw(found: _Found, question: Question) -> Page:
    """As many readings as fit on a page; what is read beyond is one piece at most."""
    wanted = question.skip + question.limit
    readings: list[Reading] = []
    for floor, piece in found.pieces():
        readings = sorted(readings + [each for each in piece if _of(each, question.points)], key=_moments)
        if len(readings) > wanted and readings[wanted].source_time < floor:
            break
    page = readings[question.skip : wanted]
    items = [_item(each, question.points) for each in page]
    if len(readings) <= wanted or not page:
        return Page(items)
    last = readings[wanted].source_time
    before = sum(each.source_time == last for each in readings[:wanted])
    return Page(items, f"{last}-{before}")


def _steps(found: _Found, question: Question) -> Page:
    step_ms = question.step_ms or 1
    steps: dict[int, dict[str, _Sum]] = {}
    for _, piece in found.pieces():
        for reading in piece:
            if reading.channel is not Channel.TELEMETRY:
                continue
            begin = question.from_ms + (reading.source_time - question.from_ms) // step_ms * step_ms
            points = steps.setdefault(begin, {})
            for name, value in reading.values.items():
                if question.points is None or name in question.points:
                    points.setdefault(name, _Sum()).add(value, reading.source_time, reading.received_at)
    return Page(
        [
            Step(begin, {name: each.summary() for name, each in steps[begin].items()})
            for begin in sorted(steps)
            if steps[begin]
        ]
    )


class _Sum:
    """A point over a step."""

    __slots__ = ("_at", "_count", "_last", "_max", "_min", "_numbers", "_sum")

    def __init__(self) -> None:
        self._count = self._numbers = 0
        self._sum = 0.0
        self._min = float("inf")
        self._max = float("-inf")
        self._last: Scalar = False
        self._at = (-(2**63), -(2**63))

    def add(self, value: Scalar, source_time: int, received_at: int) -> None:
        """One more."""
        self._count += 1
        if (source_time, received_at) >= self._at:
            self._at, self._last = (source_time, received_at), value
        if type(value) is float or type(value) is int:
            self._numbers += 1
            self._sum += value
            self._min = min(self._min, value)
            self._max = max(self._max, value)

    def summary(self) -> Summary:
        """What it comes to."""
        if not self._numbers:
            return Summary(self._count, self._last, None, None, None)
        return Summary(self._count, self._last, self._min, self._sum / self._numbers, self._max)


def _of(reading: Reading, points: Sequence[str] | None) -> bool:
    return points is None or any(name in reading.values for name in points)


def _item(reading: Reading, points: Iterable[str] | None) -> Item:
    values = reading.values
    if points is not None:
        values = {name: values[name] for name in points if name in values}
    return Item(
        reading.source_time,
        reading.received_at,
        reading.channel.name.lower(),
        values,
        reading.flags,
        reading.id,
        reading.ts,
        reading.extra,
    )


def _moments(reading: Reading) -> tuple[int, int]:
    return reading.source_time, reading.received_at


def _begin(part: Part) -> int:
    return part.from_ms
