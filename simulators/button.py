"""The alarm button of an elderly resident, and the resident who wears it.

Movement follows the hours of a day: little at night, most in the morning. Presses of ``emergency`` happen
only when a scenario says so; once a day the resident checks in, once a month the button is tested
(docs/figures.md, B1, B2).
"""

import math
import random
from collections.abc import Mapping
from typing import ClassVar

from devices.readings import Channel, Scalar
from simulators.device import DAY_S, FAULTS, POWER, Device, Happenings, Outcome, Parameter, Status

# Motions an hour, by hour of the day.
RHYTHM = (1, 1, 1, 1, 1, 4, 25, 50, 60, 55, 45, 45, 55, 15, 12, 30, 40, 45, 55, 45, 35, 25, 8, 2)
WORN_HOURS = (6.5, 22.5)
TEST_DAYS = 30
BATTERY_DAYS = 400.0
LOW_BATTERY = 15.0
NORMAL_ABOVE = 30.0
ANSWER_S = 20.0
"""So long it takes a person who is well to answer a prompt."""


class Button(Device):
    """A pendant with one button, and the person who wears it."""

    kind: ClassVar[str] = "button"
    usual_interval_s: ClassVar[float] = 3_600.0
    happenings: ClassVar[Happenings] = {
        "fault": {
            **FAULTS,
            "battery": {"percent": Parameter(8, 0, 100, "%")},
            "not_worn": {},
            "motionless": {},
            "fall": {},
            "untested": {},
        },
        "action": {"emergency": {}, "cancel": {}, "test": {}, "check_in": {}},
        "power": POWER,
    }

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        super().__init__(rng, interval_s=interval_s, starts_at_s=starts_at_s)
        self.confirmations = 0
        """How often the person was told that help is coming."""
        self._liveliness = rng.uniform(0.5, 1.4)
        self._shift_h = rng.gauss(0, 0.7)
        self._charge = rng.uniform(0.3, 1.0)
        self._link = rng.randint(60, 220)
        self._battery: float | None = None
        self._not_worn = self._motionless = self._fallen = False
        self._answer_s = math.inf
        self._counted_s = 0.0
        self._check_in_s = self._first(rng.gauss(8.5, 0.3), within_days=1)
        self._test_s = self._first(10.0, within_days=TEST_DAYS)

    def _first(self, hour: float, *, within_days: int) -> float:
        """The first time at ``hour`` of the day, on a day that lies at most so far ahead."""
        ahead_s = (hour * 3_600 - self._starts_at_s) % DAY_S
        return ahead_s + DAY_S * self.rng.randrange(within_days)

    @property
    def worn(self) -> bool:
        """On the person, not on the bedside table; who got up at night and fell has it on, unless it is never worn."""
        start, end = WORN_HOURS
        return not self._not_worn and (self._fallen or start <= self.hour + self._shift_h / 2 <= end)

    def _step(self, passed_s: float) -> float:
        del passed_s  # movement is counted when it is reported
        if self.now_s >= self._answer_s:
            self._say(Channel.EVENT, {"action": "check_in"})
            self._answer_s = math.inf
        while self.now_s >= self._check_in_s:
            if self.worn and not self._motionless:
                self._say(Channel.EVENT, {"action": "check_in"})
            self._check_in_s += DAY_S
        while self.now_s >= self._test_s:
            self._say(Channel.EVENT, {"action": "test"})
            self._test_s += TEST_DAYS * DAY_S
        return min(self._check_in_s, self._test_s, self._answer_s)

    def _motions(self) -> int:
        """Draw the motions since the last report: Poisson, with the rhythm integrated hour by hour."""
        expected, at_s = 0.0, self._counted_s
        while at_s < self.now_s:
            hour = ((self._starts_at_s + at_s) / 3_600 + self._shift_h) % 24
            part_s = min(self.now_s - at_s, (math.floor(hour) + 1 - hour) * 3_600 + 1e-3)
            expected += RHYTHM[int(hour)] * part_s / 3_600
            at_s += part_s
        self._counted_s = self.now_s
        if not self.worn or self._motionless:
            return 0
        return poisson(self.rng, expected * self._liveliness)

    def _points(self) -> dict[str, Scalar]:
        battery = self._battery
        if battery is None:
            battery = 100 * (1 - (self._charge + self.now_s / DAY_S / BATTERY_DAYS) % 1.0 * 0.8)
        return {
            "battery": round(battery),
            "battery_low": battery <= LOW_BATTERY,
            "linkquality": max(0, min(255, self._link + self.rng.randint(-8, 8))),
            "worn": self.worn,
            "activity": self._motions(),
        }

    def _happen(self, name: str, given: Mapping[str, float]) -> None:
        if name in self.happenings["action"]:
            self._say(Channel.EVENT, {"action": name})
            return
        match name:
            case "none":
                self._battery, self._not_worn, self._motionless, self._fallen = None, False, False, False
            case "battery":
                self._battery = given["percent"]
            case "not_worn":
                self._not_worn = True
            case "motionless":
                self._motionless = True
            case "untested":
                self._test_s = math.inf
            case "fall":
                self._motionless = self._fallen = True
        self.report()

    def _obey(self, command: str, _args: Mapping[str, Scalar]) -> Outcome:
        if command == "prompt":
            if self.worn and not self._motionless:
                self._answer_s = self.now_s + ANSWER_S
            return Outcome(Status.DONE, "the person was asked")
        self.confirmations += 1
        return Outcome(Status.DONE, "the person was told")


def poisson(rng: random.Random, mean: float) -> int:
    """Draw from a Poisson distribution; for a large mean the normal approximation is as good."""
    if mean > NORMAL_ABOVE:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, left = 0, rng.expovariate(1.0)
    while left < mean:
        count += 1
        left += rng.expovariate(1.0)
    return count
