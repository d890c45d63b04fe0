"""How long ago something happened: ``since_event(action == 'test')``.

Unknown until it has happened once; with ``first='heard'`` it counts from the device's first message until then, so
what never happened becomes overdue, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from devices.readings import Channel, Reading
from rules.definitions import Condition
from rules.language.calls import Call, Maker
from rules.state import Device
from rules.terms import Moved, moved
from rules.vocabulary import Point, Sort

HEARD = "heard"


@dataclass(frozen=True, slots=True)
class SinceEvent:
    """``since_event(condition)``.

    Remembers one moment (Unix ms, the device's time): when it happened last, or when the device was first heard.
    """

    condition: Condition
    point: Point
    fed: frozenset[str]
    from_heard: bool
    look_back_ms: int = 0

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """The event's fields; whatever the device says, where it counts from the first message."""
        return self.fed

    def hear(self, device: Device, reading: Reading, moment: int) -> Moved | None:
        """It happens, or the device is heard for the first time."""
        happened = reading.channel is Channel.EVENT and self.condition.evaluate(
            {**device.points, **reading.values}
        )
        if happened or (self.from_heard and self.name not in device.memory):
            before = device.memory.get(self.name)
            device.memory[self.name] = moment
            device.points[self.name] = 0.0
            return moved(before, moment)
        return None

    def since(self, device: Device) -> int | None:
        """See `rules.terms.Growing`."""
        moment: int | None = device.memory.get(self.point.name)
        return moment


def _since_event(call: Call) -> SinceEvent:
    condition = call.condition(0)
    if not condition.uses_event:
        raise call.error(0, "must look at an event field")
    from_heard = call.keyword("first", [HEARD]) is not None
    points = call.vocabulary.points.values()
    fields = frozenset(point.name for point in points if point.event)
    told = frozenset(point.name for point in points if not point.private) if from_heard else fields
    return SinceEvent(condition, Point(call.done(), Sort.DURATION), told, from_heard)


FUNCTIONS: Mapping[str, Maker] = MappingProxyType({"since_event": _since_event})
