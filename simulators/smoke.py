"""A smoke sensor: smoke in the air, the chamber that sees it, and a battery that lasts ten years.

Density follows the growth of a fire: slowly where something smoulders, with the square of time where it
burns, a short puff over a toaster. Thresholds are those of point detectors; mute and test times follow EN
14604 (docs/figures.md, A2). The alarm threshold of a sensor is its own, within 10 %.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from devices.readings import Scalar
from simulators.device import FAULTS, POWER, Device, Happenings, Outcome, Parameter, Status

ALARM_DB_M = 0.15
CLEAR_RATIO = 0.65
"""Hysteresis: the sensor is quiet again below this part of its alarm threshold."""
OVERRIDE_RATIO = 3.0
"""Smoke as dense as this many thresholds ends a mute."""

AIRING_S = 90.0
"""Time constant of smoke leaving once nothing burns."""
FULLY_GROWN = 6.0
"""After as many times its growth a fire grows no more."""
MUTE_S = 540.0
TEST_S = 8.0
YEAR_S = 365.25 * 86_400
LIFE_S = 10 * YEAR_S
LOW_BATTERY = 10.0
"""Percent; 10 % of ten years is far more than the 30 days' notice that EN 54-25 asks for."""

REPORT_DB_M = 0.05
"""Density reports itself when it has changed by this much."""


@dataclass(frozen=True, slots=True)
class Fire:
    """Density approaches ``peak_db_m`` as 1 − exp(−(t/growth)^power); after ``burns_s`` nothing burns."""

    peak_db_m: float
    power: float
    heat_c: float
    burns_s: float = math.inf


FIRES: Mapping[str, Fire] = MappingProxyType(
    {
        "smouldering": Fire(0.6, 1.5, heat_c=3.0),
        "flaming": Fire(1.6, 2.0, heat_c=45.0),
        "burnt_toast": Fire(0.25, 2.0, heat_c=1.0, burns_s=60.0),
    }
)

CONTAMINATION = ("normal", "low", "warning", "critical")


class Smoke(Device):
    """A networked stand-alone smoke sensor."""

    kind: ClassVar[str] = "smoke"
    usual_interval_s: ClassVar[float] = 3_600.0
    happenings: ClassVar[Happenings] = {
        "fault": {
            **FAULTS,
            "smouldering": {"growth": Parameter(900, 10, 7_200)},
            "flaming": {"growth": Parameter(60, 5, 3_600)},
            "burnt_toast": {"growth": Parameter(25, 5, 600)},
            "battery": {"percent": Parameter(5, 0, 100, "%")},
            "contaminated": {"level": Parameter(2, 0, 3, "")},
            "tampered": {},
            "broken": {},
            "worn_out": {},
        },
        "action": {
            "test": {"for": Parameter(TEST_S, 1, 86_400)},
            "mute": {"for": Parameter(MUTE_S, 1, 86_400)},
        },
        "power": POWER,
    }

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        super().__init__(rng, interval_s=interval_s, starts_at_s=starts_at_s)
        self.density = 0.0
        self.smoke = False
        self.muted = False
        self.test = False
        self._threshold = ALARM_DB_M * rng.uniform(0.9, 1.1)
        self._age_s = rng.uniform(0.05, 0.6) * LIFE_S
        self._drain = rng.uniform(0.95, 1.05)
        self._link = rng.randint(60, 240)
        self._fire: Fire | None = None
        self._growth_s = 1.0
        self._lit_at_s = 0.0
        self._heat_c = 0.0
        self._mute_ends_s = self._test_ends_s = math.inf
        self._battery: float | None = None
        self._contamination = 0
        self._tamper = self._broken = self._worn_out = False
        self._reported_density = 0.0

    @property
    def battery(self) -> float:
        """Percent left: a lithium cell falls slowly, and faster towards its end."""
        if self._battery is not None:
            return self._battery
        spent = min(1.0, (self._age_s + self.now_s) / LIFE_S * self._drain)
        return 100 * (1 - 0.7 * spent - 0.3 * spent**4)

    def _step(self, passed_s: float) -> float:
        if self.now_s >= self._test_ends_s:
            self.test, self._test_ends_s = False, math.inf
            self.report()
        if self.now_s >= self._mute_ends_s:
            self._unmute()
        self._burn(passed_s)
        self._detect()
        return min(self._next_look_s(), self._test_ends_s, self._mute_ends_s)

    def _next_look_s(self) -> float:
        """Where something grows or airs it is looked at every second, where it only burns on now and then."""
        if self._fire is None:
            return self.now_s + 1 if self.density > 0 else math.inf
        lit_s = self.now_s - self._lit_at_s
        grown = lit_s > FULLY_GROWN * self._growth_s and math.isinf(self._fire.burns_s)
        return self.now_s + (60 if grown else 1)

    def _burn(self, passed_s: float) -> None:
        fire, lit_s = self._fire, self.now_s - self._lit_at_s
        if fire is not None and lit_s > fire.burns_s:
            self._fire = fire = None
        if fire is None:
            airing = math.exp(-passed_s / AIRING_S)
            self.density, self._heat_c = self.density * airing, self._heat_c * airing
            if self.density < ALARM_DB_M / 100:
                self.density = self._heat_c = 0.0
            return
        grown = 1 - math.exp(-((lit_s / self._growth_s) ** fire.power))
        self.density = max(self.density, fire.peak_db_m * grown)
        self._heat_c = max(self._heat_c, fire.heat_c * grown)

    def _detect(self) -> None:
        seen = self.density + 0.02 * self._contamination
        if not self._broken:
            level = self._threshold * (CLEAR_RATIO if self.smoke else 1)
            if self.smoke != (seen >= level):
                self.smoke = not self.smoke
                self.report()
        if self.muted and seen >= OVERRIDE_RATIO * self._threshold:
            self._unmute()
        if abs(self.density - self._reported_density) >= REPORT_DB_M:
            self.report()

    def _unmute(self) -> None:
        self.muted, self._mute_ends_s = False, math.inf
        self.report()

    def _points(self) -> dict[str, Scalar]:
        self._reported_density = self.density
        seen = max(0.0, self.density + 0.02 * self._contamination + self.rng.gauss(0, 0.003))
        battery = self.battery
        return {
            "smoke": self.smoke or self.test,
            "density": round(min(10.0, seen), 3),
            "temperature": round(self.ambient_c + self._heat_c + self.rng.gauss(0, 0.1), 1),
            "battery": round(battery),
            "battery_low": battery <= LOW_BATTERY,
            "tamper": self._tamper,
            "test": self.test,
            "muted": self.muted,
            "fault": self._broken,
            "contamination": CONTAMINATION[self._contamination],
            "end_of_life": self._worn_out or self._age_s + self.now_s >= LIFE_S,
            "linkquality": max(0, min(255, self._link + self.rng.randint(-8, 8))),
        }

    def _happen(self, name: str, given: Mapping[str, float]) -> None:
        match name:
            case "none":
                self._fire, self._battery, self._contamination = None, None, 0
                self._tamper = self._broken = self._worn_out = False
            case "battery":
                self._battery = given["percent"]
            case "contaminated":
                self._contamination = int(given["level"])
            case "tampered":
                self._tamper = True
            case "broken":
                self._broken = True
            case "worn_out":
                self._worn_out = True
            case "test":
                self.test, self._test_ends_s = True, self.now_s + given["for"]
            case "mute":
                self.muted, self._mute_ends_s = True, self.now_s + given["for"]
            case _:
                self._fire, self._growth_s, self._lit_at_s = FIRES[name], given["growth"], self.now_s
                return  # smoke is told when there is some
        self.report()

    def _obey(self, command: str, _args: Mapping[str, Scalar]) -> Outcome:
        if command == "mute":
            self.muted, self._mute_ends_s = True, self.now_s + MUTE_S
        else:
            if self._broken:
                return Outcome(Status.FAILED, "the chamber does not answer")
            self.test, self._test_ends_s = True, self.now_s + TEST_S
        self.report()
        return Outcome(Status.DONE)
