"""Functions over a device's own points: windows, and what lasted or changed.

All of them go by the device's time (`rules.moments`). A message that was overtaken by at most `TOLERANCE_MS` is placed
where it belongs; one that comes later than that never gets here (`rules.lateness`), so a sample that lies further
back means that the device's clock was set back, and a window begins anew. A window at a moment holds what was said
after that moment less its length, up to it. An empty window is unknown: silence tells nothing.

`FUNCTIONS` holds the makers; what a window remembers is in `rules.functions.folds`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from devices.readings import Channel, Reading, Scalar
from rules.definitions import Condition, Points
from rules.functions.folds import CELLS_MOST, Count, Delta, Extreme, Fold, Mean, Rise
from rules.language.calls import Call, Maker
from rules.moments import TOLERANCE_MS
from rules.state import Device
from rules.terms import Moved, moved
from rules.vocabulary import Point, Sort

RECENT_MOST = 16
"""Messages of the tolerance that can still be overtaken; of more only the newest."""


@dataclass(frozen=True, slots=True)
class Window:
    """A fold of the samples within ``look_back_ms``: of a point, or of whether a condition was true."""

    name: str
    point: Point
    feeds: frozenset[str]
    look_back_ms: int
    fold: Fold
    of: str | Condition
    empty: float | None = None
    """Its value without a sample."""

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """Place the sample. One of which nobody knows when it was so is left out."""
        if device.clock is not None and device.clock.unsure:
            return
        of, name = self.of, self.name
        sample: Any = reading.values[of] if isinstance(of, str) else _truth(of, device, reading)
        if sample is None:
            return
        memory = device.memory.get(name)
        if memory is None or moment < memory[0] - TOLERANCE_MS:
            memory = device.memory[name] = self.fold.start()
        newest = memory[0] = max(memory[0], moment)
        if moment > newest - self.look_back_ms:
            self.fold.add(memory, moment, sample)
        self._tell(device, memory, newest)

    def fades_at(self, device: Device) -> int | None:
        """When its oldest cell leaves."""
        memory = device.memory.get(self.name)
        if memory is None or self.name not in device.points:
            return None
        cells = memory[1]
        if cells:
            return int(cells[0]) + self.look_back_ms
        return memory[0] + self.look_back_ms if self.empty is None else None

    def fade(self, device: Device, moment: int) -> None:
        """Without what is too old by now."""
        self._tell(device, device.memory[self.name], moment)

    def _tell(self, device: Device, memory: list[Any], moment: int) -> None:
        until = moment - self.look_back_ms
        cells = memory[1]
        if cells and cells[0] <= until:
            self.fold.drop(memory, until)
        value = self.fold.value(memory) if memory[0] > until else self.empty
        if value is None:
            device.points.pop(self.name, None)
        else:
            device.points[self.name] = value


@dataclass(frozen=True, slots=True)
class Lasting:
    """``duration(condition)``: how long it has been true without a break. False is 0, and unknown changes nothing.

    Remembers ``[since, recent, since before the recent]``; each of the recent messages is a ``[moment, truth]``.
    """

    name: str
    point: Point
    feeds: frozenset[str]
    condition: Condition
    look_back_ms: int = 0

    def hear(self, device: Device, reading: Reading, moment: int) -> Moved | None:
        """Place what the message says of the condition."""
        truth = _truth(self.condition, device, reading)
        if truth is None:
            return None
        memory = device.memory.get(self.name)
        if memory is None:
            memory = device.memory[self.name] = [None, [], None]
        before, recent = memory[0], memory[1]
        newest = recent[-1][0] if recent else moment
        if moment >= newest:
            recent.append([moment, truth])
            if truth or memory[0] is not None:
                memory[0] = _begun(memory[0], moment, truth)
        else:
            if _place(recent, moment, truth):  # what has lasted so far still has
                memory[2] = None if memory[0] is None else memory[0] + moment - newest
            since = memory[2]
            for then, was in recent:
                since = _begun(since, then, was)
            memory[0] = since
        while _settles(recent):
            then, was = recent.pop(0)
            if was or memory[2] is not None:
                memory[2] = _begun(memory[2], then, was)
        if memory[0] is None or memory[0] != before:
            device.points[self.name] = 0.0
        return moved(before, memory[0])

    def since(self, device: Device) -> int | None:
        """The first true one after the last false one."""
        memory = device.memory.get(self.name)
        return None if memory is None else memory[0]


def _begun(since: int | None, moment: int, truth: object) -> int | None:
    if not truth:
        return None
    return moment if since is None else since


@dataclass(frozen=True, slots=True)
class Previous:
    """``previous(point)``: what it was before it was said last; ``changed(point)``: whether the two differ.

    Remembers the two newest, newest first, each a ``[moment, value]``.
    """

    name: str
    point: Point
    feeds: frozenset[str]
    of: str
    changed: bool = False
    look_back_ms: int = 0

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """The second newest is the value."""
        said = [moment, reading.values[self.of]]
        memory = device.memory.get(self.name)
        if memory is None:
            device.memory[self.name] = [said]
            return
        newest = memory[0][0]
        if moment >= newest or moment < newest - TOLERANCE_MS:  # or the clock was set back
            memory[:] = [said, memory[0]]
        elif len(memory) == 1 or moment >= memory[1][0]:
            memory[1:] = [said]
        now, before = memory[0][1], memory[1][1]
        device.points[self.name] = now != before if self.changed else before


@dataclass(frozen=True, slots=True)
class Changed:
    """``changed(point, window)``: whether something else was said of it within the window.

    Not to have changed is known only of a device heard for as long, and not silent since. Remembers ``[first, last
    change, recent, value before the recent ones, last change before them]``.
    """

    name: str
    point: Point
    feeds: frozenset[str]
    of: str
    look_back_ms: int

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """Place what was said."""
        value = reading.values[self.of]
        memory = device.memory.get(self.name)
        if memory is None:
            memory = device.memory[self.name] = [moment, None, [], None, None]
        recent = memory[2]
        if recent and moment >= recent[-1][0]:
            if value != recent[-1][1]:
                memory[1] = moment
            recent.append([moment, value])
        else:
            if _place(recent, moment, value):
                memory[:] = [moment, None, recent, None, None]
            memory[0] = min(memory[0], moment)
            before, change = memory[3], memory[4]
            for then, was in recent:
                if before is not None and was != before:
                    change = then
                before = was
            memory[1] = change
        while _settles(recent):
            then, was = recent.pop(0)
            if memory[3] is not None and was != memory[3]:
                memory[4] = then
            memory[3] = was
        self.fade(device, recent[-1][0])

    def fades_at(self, device: Device) -> int | None:
        """When the last change is too old, and when there is silence."""
        memory = device.memory.get(self.name)
        if memory is None or self.name not in device.points:
            return None
        return self.look_back_ms + int(memory[1] if device.points[self.name] else memory[2][-1][0])

    def fade(self, device: Device, moment: int) -> None:
        """As it is known at ``moment``."""
        first, change, recent, _, _ = device.memory[self.name]
        until = moment - self.look_back_ms
        if change is not None and change > until:
            device.points[self.name] = True
        elif first <= until < recent[-1][0]:
            device.points[self.name] = False
        else:
            device.points.pop(self.name, None)


def _place(recent: list[list[Any]], moment: int, said: Scalar) -> bool:
    """Put it where it belongs; true where the clock was set back and what was recent is forgotten."""
    back = bool(recent) and moment < recent[-1][0] - TOLERANCE_MS
    if back:
        recent.clear()
    at = len(recent)
    while at and recent[at - 1][0] > moment:
        at -= 1
    recent.insert(at, [moment, said])
    return back


def _settles(recent: list[list[Any]]) -> bool:
    """Whether the first can no longer be overtaken; one always stays."""
    return len(recent) > 1 and (len(recent) > RECENT_MOST or recent[1][0] < recent[-1][0] - TOLERANCE_MS)


# Makers


def _truth(condition: Condition, device: Device, reading: Reading) -> bool | None:
    view: Points = device.points
    if condition.uses_event:
        if reading.channel is not Channel.EVENT:
            return None
        view = {**view, **reading.values}
    return condition.evaluate(view)


def _feeds_of(call: Call, condition: Condition) -> frozenset[str]:
    """Of a condition on an event the event's fields, else all points that it rests on."""
    points = call.vocabulary.points
    named = condition.names.intersection(points)
    if condition.uses_event:
        return frozenset(name for name in named if points[name].event)
    return named.union(*(term.feeds for term in condition.terms))


def _of_samples(make: Callable[[float, float], Fold], call: Call) -> Window:
    """A window over a number; ``make`` takes its grain and its length in ms."""
    of, look_back_ms = call.number_point(0), call.duration(1)
    fold = make(look_back_ms / CELLS_MOST, look_back_ms)
    keeps_range = isinstance(fold, Mean | Extreme)
    point = replace(of, name=call.done(), event=False) if keeps_range else Point(call.done(), Sort.NUMBER)
    return Window(point.name, point, frozenset({of.name}), look_back_ms, fold, of.name)


def _count(call: Call) -> Window:
    condition, look_back_ms = call.condition(0), call.duration(1)
    point = Point(call.done(), Sort.NUMBER, least=0)
    fold = Count(look_back_ms / CELLS_MOST)
    empty = 0 if condition.uses_event else None
    return Window(point.name, point, _feeds_of(call, condition), look_back_ms, fold, condition, empty)


def _duration(call: Call) -> Lasting:
    condition = call.condition(0)
    if condition.uses_event:
        raise call.error(0, "an event has no duration")
    point = Point(call.done(), Sort.DURATION, least=0)
    return Lasting(point.name, point, _feeds_of(call, condition), condition)


def _previous(call: Call) -> Previous:
    of = call.point(0)
    point = replace(of, name=call.done(), event=False)
    return Previous(point.name, point, frozenset({of.name}), of.name)


def _changed(call: Call) -> Previous | Changed:
    of = call.point(0)
    look_back_ms = call.duration(1) if call.has(1) else 0
    point = Point(call.done(), Sort.BOOLEAN)
    feeds = frozenset({of.name})
    if look_back_ms:
        return Changed(point.name, point, feeds, of.name, look_back_ms)
    return Previous(point.name, point, feeds, of.name, changed=True)


FUNCTIONS: Mapping[str, Maker] = MappingProxyType(
    {
        "mean": partial(_of_samples, lambda grain_ms, _: Mean(grain_ms)),
        "min": partial(_of_samples, lambda grain_ms, _: Extreme(grain_ms, -1)),
        "max": partial(_of_samples, lambda grain_ms, _: Extreme(grain_ms, 1)),
        "rise": partial(_of_samples, lambda grain_ms, length_ms: Rise(grain_ms, length_ms / 2)),
        "delta": partial(_of_samples, lambda grain_ms, _: Delta(grain_ms)),
        "count": _count,
        "duration": _duration,
        "previous": _previous,
        "changed": _changed,
    }
)
