"""A siren or a broadcast speaker: sounds when told to, for as long as told."""

import math
import random
from collections.abc import Mapping
from typing import ClassVar

from devices.readings import Scalar
from simulators.device import FAULTS, POWER, Device, Happenings, Outcome, Status

SOUNDS_S = 60
"""How long it sounds if the command does not say."""


class Sounder(Device):
    """What `Siren` and `Broadcast` do."""

    usual_interval_s: ClassVar[float] = 300.0
    mains: ClassVar[bool] = True
    happenings: ClassVar[Happenings] = {"fault": {**FAULTS, "broken": {}}, "power": POWER}

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        super().__init__(rng, interval_s=interval_s, starts_at_s=starts_at_s)
        self.sounding = False
        self.broken = False
        self._ends_s = math.inf

    def _step(self, passed_s: float) -> float:
        del passed_s  # nothing in it wears
        if self.now_s >= self._ends_s:
            self._silence()
        return self._ends_s

    def _silence(self) -> None:
        if self.sounding:
            self.report()
        self.sounding, self._ends_s = False, math.inf

    def _powered(self, *, on: bool) -> None:
        if not on:
            self.sounding, self._ends_s = False, math.inf

    def _points(self) -> dict[str, Scalar]:
        return {"sounding": self.sounding, "fault": self.broken}

    def _happen(self, name: str, _given: Mapping[str, float]) -> None:
        self.broken = name == "broken"
        if self.broken:
            self._silence()
        self.report()

    def _obey(self, command: str, args: Mapping[str, Scalar]) -> Outcome:
        if command == "silence":
            self._silence()
            return Outcome(Status.DONE)
        if self.broken:
            return Outcome(Status.FAILED, "the amplifier is broken")
        self.sounding = True
        self._ends_s = self.now_s + float(args.get("seconds", SOUNDS_S))
        self.report()
        return Outcome(Status.DONE)


class Siren(Sounder):
    """A siren."""

    kind: ClassVar[str] = "siren"


class Broadcast(Sounder):
    """A broadcast speaker."""

    kind: ClassVar[str] = "broadcast"
