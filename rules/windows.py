"""Functions over a device's own points, by the device's time.

`FUNCTIONS` holds their makers; each term is a small value that knows the shape of what it remembers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from devices.readings import Reading
from rules.calls import Call, Maker
from rules.state import Device
from rules.vocabulary import Point


@dataclass(frozen=True, slots=True)
class Previous:
    """``previous(point)``: what it was before it was said last.

    Remembers the two newest values, each with its moment: ``[moment, value]``, newest first.
    """

    of: str
    point: Point
    look_back_ms: int = 0

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """The point."""
        return frozenset({self.of})

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """The second newest is the value."""
        said = [moment, reading.values[self.of]]
        memory = device.memory.setdefault(self.name, [])
        at = next((index for index, (then, _) in enumerate(memory) if moment >= then), len(memory))
        memory.insert(at, said)
        del memory[2:]
        if len(memory) > 1:
            device.points[self.name] = memory[1][1]


def _previous(call: Call) -> Previous:
    point = call.point(0)
    return Previous(point.name, replace(point, name=call.done(), event=False))


FUNCTIONS: Mapping[str, Maker] = MappingProxyType({"previous": _previous})
