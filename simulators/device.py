"""What all simulated devices have in common: their clock, their reports, what can happen to them.

A device is a state machine over its own time. `Device.advance` moves that time and gives the messages that
fell due; the same seed gives the same messages, however the time is cut into pieces. A device knows neither
the broker nor the calendar: whoever carries its messages adds ``ts`` and the topic.
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from devices.kinds import KINDS
from devices.readings import Channel, Scalar

DAY_S = 86_400.0
FIRST_REPORT_S = 5.0
"""Within this time after it was switched on, or connected anew, a device says how it is."""

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
    """A number that can be said about something that happens."""

    default: float
    low: float
    high: float
    unit: str = "s"


Happenings = Mapping[str, Mapping[str, Mapping[str, Parameter]]]
"""What can happen to a device: verb (fault, action, passenger) → name → parameters."""

FOREVER = Parameter(math.inf, 0, math.inf)

FAULTS: Mapping[str, Mapping[str, Parameter]] = MappingProxyType(
    {
        "silent": {"for": FOREVER},
        "offline": {"for": FOREVER},
        "none": {},
    }
)
"""Faults of every device: it says nothing though connected, its connection breaks, all is well again."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens to a device at a moment of the story."""

    at_s: float
    device: str
    verb: str
    name: str
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


class Device(ABC):
    """One simulated device."""

    kind: ClassVar[str]
    usual_interval_s: ClassVar[float]
    """How often such a device reports when nothing changes."""
    happenings: ClassVar[Happenings]

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        """``starts_at_s``: seconds after midnight at which its time begins."""
        self.rng = rng
        self.interval_s = interval_s if interval_s is not None else self.usual_interval_s
        self.now_s = 0.0
        self.silent_until_s = -math.inf
        self.offline_until_s = -math.inf
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
        return self.now_s < self.offline_until_s

    def advance(self, dt_s: float) -> list[Message]:
        """Move its time by ``dt_s``; give what it said meanwhile, oldest first."""
        return self.advance_to(self._asked_s + dt_s)

    def advance_to(self, at_s: float) -> list[Message]:
        """Move its time to ``at_s`` (never back); give what it said meanwhile, oldest first."""
        self.run_to(at_s)
        said, self._said = self._said, []
        return [] if self.now_s < self.silent_until_s or self.offline else said

    def run_to(self, at_s: float) -> None:
        """Move its time to ``at_s`` (never back); what it says meanwhile is kept for the next advance."""
        self._asked_s = max(self._asked_s, at_s)
        while (due_s := self._next_s) <= self._asked_s:
            self.now_s = max(self.now_s, due_s)
            if self._step_at_s <= self.now_s:
                self._move()
            if self._report_at_s <= self.now_s:
                self._say(Channel.TELEMETRY, self._points())
                self._report_at_s = self.now_s + self.interval_s
        self.now_s = max(self.now_s, self._asked_s)

    def set_interval(self, interval_s: float) -> None:
        """Report so often from now on."""
        self.interval_s = interval_s
        self._report_at_s = self.now_s + self._phase_s

    def report(self) -> None:
        """Say how it is at the next advance, whether or not that is due."""
        self._report_at_s = min(self._report_at_s, self.now_s)

    def introduce(self) -> None:
        """It has just connected: say how it is within `FIRST_REPORT_S`, each at a moment of its own."""
        self._report_at_s = min(self._report_at_s, self.now_s + self._phase_s)

    def happen(self, verb: str, name: str, parameters: Mapping[str, float]) -> None:
        """Let something of `happenings` happen now; parameters left out have their defaults."""
        self._move()
        known = self.happenings[verb][name]
        given = {key: parameters.get(key, parameter.default) for key, parameter in known.items()}
        match name:
            case "silent":
                self.silent_until_s = self.now_s + given["for"]
            case "offline":
                self.offline_until_s = self.now_s + given["for"]
            case "none":
                self.silent_until_s = self.offline_until_s = -math.inf
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
        self._said.append(Message(self.now_s, channel, payload))

    def _move(self) -> None:
        """Bring the physics up to now."""
        passed_s, self._moved_s = self.now_s - self._moved_s, self.now_s
        self._step_at_s = self._step(passed_s)

    def _wake(self) -> None:
        """Step at the next advance."""
        self._step_at_s = min(self._step_at_s, self.now_s)
