"""What all simulated devices have in common: their clock, their reports, what can happen to them.

A device is a state machine over its own time. `Device.advance` moves that time and gives the messages that
fell due; the same seed gives the same messages, however the time is cut into pieces. A device knows neither
the broker nor the calendar: whoever carries its messages adds ``ts`` and the topic. What happens to messages on
their way (`simulators.line`) is no matter of the device.
"""

import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from devices.kinds import KINDS
from devices.readings import Channel, Scalar

DAY_S = 86_400.0
FIRST_REPORT_S = 5.0
"""Within this time after it was switched on, or connected anew, a device says how it is."""

OUTBOX_LIMIT = 32
"""Messages of a device that wait to be sent while there is no broker; beyond them the oldest goes."""

AMBIENT_C = 22.0
AMBIENT_SWING_C = 6.0
"""Mean and daily swing of the air around the devices; warmest at three in the afternoon."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something that a device says. ``at_s`` is the device's own time."""

    at_s: float
    channel: Channel
    payload: Mapping[str, Scalar]


class Status(StrEnum):
    """How a command ended (contract, section 1)."""

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A device's answer to a command."""

    status: Status
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that can be said about something that happens.

    ``unit`` is written as it is read by people; ``s`` is a duration, ``share`` a number from 0 to 1 or percent.
    """

    default: float
    low: float
    high: float
    unit: str = "s"


Happenings = Mapping[str, Mapping[str, Mapping[str, Parameter]]]
"""What can happen to a device: verb (fault, action, passenger, power) → name → parameters."""

FOREVER = Parameter(math.inf, 0, math.inf)

FAULTS: Mapping[str, Mapping[str, Parameter]] = MappingProxyType(
    {
        "silent": {"for": FOREVER},
        "offline": {"for": FOREVER},
        "flood": {"rate": Parameter(50, 0.1, 10_000, "/s"), "for": FOREVER},
        "none": {},
    }
)
"""Faults of every device: it says nothing though connected, its connection breaks, it says far too much, all is
well again."""

POWER: Mapping[str, Mapping[str, Parameter]] = MappingProxyType({"cut": {}, "back": {}})
"""What lives on mains is dead without it; of what lives on a battery, the radio hub is."""

KEPT_EVENTS = 32
KEPT_IN_BUFFER = 10_000
"""Messages that a device keeps while its connection is broken; beyond them the oldest goes."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens to a device."""

    verb: str
    name: str
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


class Device(ABC):
    """One simulated device."""

    kind: ClassVar[str]
    usual_interval_s: ClassVar[float]
    """How often such a device reports when nothing changes."""
    happenings: ClassVar[Happenings]
    mains: ClassVar[bool] = False
    """Lives on mains, not on a battery."""

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        """``starts_at_s``: seconds after midnight at which its time begins."""
        self.rng = rng
        self.interval_s = interval_s if interval_s is not None else self.usual_interval_s
        self.now_s = 0.0
        self.silent_until_s = -math.inf
        self.offline_until_s = -math.inf
        self.powered = True
        self.buffers = False
        """While its connection is broken it keeps what it measures, not only events."""
        self._flood_until_s = self._flood_interval_s = -math.inf
        self._set: dict[str, Scalar | None] = {}
        self._kept: deque[Message] = deque()
        self._starts_at_s = starts_at_s
        self._asked_s = 0.0
        self._step_at_s = 0.0
        self._moved_s = 0.0
        self._phase = rng.random()
        self._report_at_s = self._phase_s
        self._said: list[Message] = []

    @property
    def due_s(self) -> float:
        """The device's time at which it next wants to be advanced."""
        return self.now_s if self._said else self._next_s

    @property
    def _next_s(self) -> float:
        return min(self._step_at_s, self._report_at_s)

    @property
    def _phase_s(self) -> float:
        return self._phase * min(self.interval_s, FIRST_REPORT_S)

    @property
    def hour(self) -> float:
        """Hour of the day, 0 ≤ hour < 24."""
        return (self._starts_at_s + self.now_s) % DAY_S / 3_600

    @property
    def ambient_c(self) -> float:
        """The temperature of the air around it."""
        return AMBIENT_C + AMBIENT_SWING_C * math.cos((self.hour - 15) / 24 * math.tau)

    @property
    def offline(self) -> bool:
        """Its connection is broken, and stays so for now."""
        return not self.powered or self.now_s < self.offline_until_s

    def advance(self, dt_s: float) -> list[Message]:
        """Move its time by ``dt_s``; give what it said meanwhile, oldest first."""
        return self.advance_to(self._asked_s + dt_s)

    def advance_to(self, at_s: float) -> list[Message]:
        """Move its time to ``at_s`` (never back); give what it said meanwhile, oldest first."""
        self.run_to(at_s)
        said, self._said = self._said, []
        if self.now_s < self.silent_until_s or not self.powered:
            return []
        if self.offline:
            self._keep(said)
            return []
        return said

    def _keep(self, said: list[Message]) -> None:
        limit = KEPT_IN_BUFFER if self.buffers else KEPT_EVENTS
        for message in said:
            if self.buffers or message.channel is Channel.EVENT:
                if len(self._kept) >= limit:
                    self._kept.popleft()
                self._kept.append(message)

    def run_to(self, at_s: float) -> None:
        """Move its time to ``at_s`` (never back); what it says meanwhile is kept for the next advance."""
        self._asked_s = max(self._asked_s, at_s)
        while (due_s := self._next_s) <= self._asked_s:
            self.now_s = max(self.now_s, due_s)
            if self._step_at_s <= self.now_s:
                self._move()
            if self._report_at_s <= self.now_s:
                self._say(Channel.TELEMETRY, self._measured())
                flooding = self.now_s < self._flood_until_s
                self._report_at_s = self.now_s + (self._flood_interval_s if flooding else self.interval_s)
        self.now_s = max(self.now_s, self._asked_s)

    def set_interval(self, interval_s: float) -> None:
        """Report so often from now on."""
        self.interval_s = interval_s
        self._report_at_s = self.now_s + self._phase_s

    def report(self) -> None:
        """Say how it is at the next advance, whether or not that is due."""
        self._report_at_s = min(self._report_at_s, self.now_s)

    def _measured(self) -> dict[str, Scalar]:
        points = self._points()
        if self._set:
            points.update({name: value for name, value in self._set.items() if value is not None})
            points = {name: value for name, value in points.items() if self._set.get(name, value) is not None}
        return points

    def set(self, points: Mapping[str, Scalar | None]) -> None:
        """These points say so from now on, whatever physics does; None: they are not said at all."""
        self._set.update(points)
        self.report()

    def unset(self, names: Iterable[str] | None = None) -> None:
        """These points, or all, are measured again."""
        for name in list(self._set) if names is None else names:
            self._set.pop(name, None)
        self.report()

    def introduce(self) -> None:
        """It has just connected: tell what was kept, and within `FIRST_REPORT_S` how it is, each at its moment."""
        self._said = [*self._kept, *self._said]
        self._kept.clear()
        self._report_at_s = min(self._report_at_s, self.now_s + self._phase_s)

    def happen(self, verb: str, name: str, parameters: Mapping[str, float]) -> None:
        """Let something of `happenings` happen now; parameters left out have their defaults."""
        self._move()
        known = self.happenings[verb][name]
        given = {key: parameters.get(key, parameter.default) for key, parameter in known.items()}
        match name:
            case "cut" | "back":
                self._power(on=name == "back")
            case "silent":
                self.silent_until_s = self.now_s + given["for"]
            case "offline":
                self.offline_until_s = self.now_s + given["for"]
            case "flood":
                self._flood_until_s, self._flood_interval_s = self.now_s + given["for"], 1 / given["rate"]
                self.report()
            case "none":
                self.silent_until_s = self.offline_until_s = self._flood_until_s = -math.inf
                self._set.clear()
                self.report()
                self._happen(name, given)
            case _:
                self._happen(name, given)
        self._wake()

    def obey(self, command: str, args: Mapping[str, Scalar]) -> Outcome:
        """Carry out a command now, or say why not."""
        known = KINDS[self.kind].commands.get(command)
        if known is None:
            return Outcome(Status.REJECTED, f"a {self.kind} knows no command {command!r:.40}")
        for name, value in args.items():
            if name not in known.args:
                return Outcome(Status.REJECTED, f"{command} takes no {name!r:.40}")
            if not isinstance(value, known.args[name]) or isinstance(value, bool):
                return Outcome(Status.REJECTED, f"{name} must be {known.args[name].__name__}")
            limit = known.limits.get(name, math.inf)
            if isinstance(value, int | float) and not 0 <= value <= limit:
                return Outcome(Status.REJECTED, f"{name} is not within 0 and {limit:g}")
        self._move()
        outcome = self._obey(command, args)
        self._wake()
        return outcome

    def _power(self, *, on: bool) -> None:
        if self.mains:
            self.powered = on
            self._powered(on=on)
        else:
            self.offline_until_s = -math.inf if on else math.inf

    def _powered(self, *, on: bool) -> None:
        """Its mains went or came: what it was about to say is lost."""
        del on
        self._said.clear()

    @abstractmethod
    def _step(self, passed_s: float) -> float:
        """Move the physics by ``passed_s`` to `now_s`; give the time of the next step, ``inf`` for none."""

    @abstractmethod
    def _points(self) -> dict[str, Scalar]:
        """Telemetry as measured now."""

    @abstractmethod
    def _happen(self, name: str, given: Mapping[str, float], /) -> None:
        """Let it happen; ``none`` ends every fault. A kind's names are its own whatever their verb."""

    @abstractmethod
    def _obey(self, command: str, args: Mapping[str, Scalar], /) -> Outcome:
        """Carry out a command whose arguments have been checked."""

    def _say(self, channel: Channel, payload: Mapping[str, Scalar]) -> None:
        if channel is Channel.TELEMETRY and self._said:
            last = self._said[-1]
            if last.channel is channel and last.at_s == self.now_s:
                self._said.pop()  # what happens at one moment is one reading, of how it is after all of it
        self._said.append(Message(self.now_s, channel, payload))

    def _move(self) -> None:
        """Bring the physics up to now."""
        passed_s, self._moved_s = self.now_s - self._moved_s, self.now_s
        self._step_at_s = self._step(passed_s)

    def _wake(self) -> None:
        """Step at the next advance."""
        self._step_at_s = min(self._step_at_s, self.now_s)
