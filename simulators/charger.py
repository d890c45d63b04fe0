"""A charging port for e-bikes: one session after another, seen from the socket.

A session draws constant current (power rises a little with the battery's voltage) until 85 % of what the
battery needs is in it, tapers off exponentially, floats, and ends when its owner unplugs. Power warms the
port, a thermal resistance and capacity. ``energy`` is the port's register, the integral of its power.

What goes wrong: ``overheat`` is a bad contact, which heats while current flows and cools once `cut_power` is
obeyed; ``runaway`` is a battery beyond saving, which no relay stops; ``failing_battery`` goes that way, warming
slowly first; ``no_taper`` is a battery that never fills (docs/figures.md, C1, C2, C3, C4).
"""

import math
import random
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from devices.kinds.charger import ChargePointError, ChargePointStatus
from devices.readings import Scalar
from simulators.device import FAULTS, POWER, Device, Happenings, Outcome, Parameter, Status

MAINS_V = 225.0
POWER_FACTOR = 0.95
IN_USE = 0.65
"""Part of the ports that are charging when time begins."""
CHECKS_S = 8.0
"""From plugging in to current: the card, the relay's self-check."""
BULK_SHARE = 0.85
"""Part of the needed energy that goes in before the taper."""
BULK_RISE = 0.08
"""Power rises by this much while the battery's voltage does."""
FULL_SHARE = 0.05
"""Below this part of its bulk power a battery floats."""
FLOAT_W = 4.0
FLOAT_ENDS_S = 3_600.0
"""The socket ends a session that has floated for so long."""

HEATING_K_PER_W = 0.025
"""Port over ambient in steady state: 25 K at 1 kW."""
THERMAL_S = 150.0
"""Time constant of the port."""
WARMING_STEP_S = 3.0
SETTLED_STEP_S = 15.0
"""How finely a port is looked at that warms or cools with its load, and one that has done so."""
SENSOR_MAX_C = 190.0
HOT_C = 80.0
"""The port tells HighTemperature from here on; it does not switch itself off (docs/figures.md, 0.8)."""
RESTORE_BELOW_C = 60.0
REPORT_K = 1.0
"""A port reports at once when its temperature has moved by this much."""

GROUND_FAILURE_MA = 30.0

FAILING_C_PER_S = 0.02
FAILING_LIMIT_C = 58.0
"""How a failing battery warms the port before it runs away: as a hot summer day would."""


class Phase(StrEnum):
    """Where a session is."""

    IDLE = "idle"
    PLUGGED = "plugged"
    BULK = "bulk"
    TAPER = "taper"
    FLOAT = "float"
    ENDED = "ended"
    """Over, but still plugged in."""


STATUSES: Mapping[Phase, ChargePointStatus] = MappingProxyType(
    {
        Phase.IDLE: ChargePointStatus.AVAILABLE,
        Phase.PLUGGED: ChargePointStatus.PREPARING,
        Phase.BULK: ChargePointStatus.CHARGING,
        Phase.TAPER: ChargePointStatus.CHARGING,
        Phase.FLOAT: ChargePointStatus.SUSPENDED_EV,
        Phase.ENDED: ChargePointStatus.FINISHING,
    }
)


class Charger(Device):
    """One charging port."""

    kind: ClassVar[str] = "charger"
    usual_interval_s: ClassVar[float] = 60.0
    mains: ClassVar[bool] = True
    happenings: ClassVar[Happenings] = {
        "fault": {
            **FAULTS,
            "overheat": {
                "rate": Parameter(0.7, 0.01, 5, "°C/s"),
                "limit": Parameter(120, 40, SENSOR_MAX_C, "°C"),
            },
            "runaway": {
                "rate": Parameter(1.5, 0.01, 20, "°C/s"),
                "limit": Parameter(180, 40, SENSOR_MAX_C, "°C"),
            },
            "failing_battery": {
                "after": Parameter(600, 0, 86_400),
                "rate": Parameter(1.5, 0.01, 20, "°C/s"),
                "limit": Parameter(180, 40, SENSOR_MAX_C, "°C"),
            },
            "no_taper": {},
            "over_voltage": {"voltage": Parameter(285, 0, 499, "V")},
            "under_voltage": {"voltage": Parameter(80, 0, 499, "V")},
            "broken": {},
            "leakage": {"current": Parameter(45, 0, 1_000, "mA")},
            "welded": {},
        },
        "action": {
            "plug": {
                "watts": Parameter(0, 0, 2_000, "W"),
                "needs": Parameter(0, 0, 100, "kWh"),
                "stays": Parameter(math.nan, 0, math.inf),
            },
            "unplug": {},
        },
        "power": POWER,
    }

    def __init__(
        self, rng: random.Random, *, interval_s: float | None = None, starts_at_s: float = 0.0
    ) -> None:
        super().__init__(rng, interval_s=interval_s, starts_at_s=starts_at_s)
        self.phase = Phase.IDLE
        self.power_w = 0.0
        self.energy_kwh = round(rng.uniform(50, 4_000), 4)
        self.temperature_c = self.ambient_c
        self.cut = False
        """The relay is open."""
        self._status = ChargePointStatus.AVAILABLE
        self._session = ""
        self._bulk_w = self._need_wh = self._got_wh = 0.0
        self._phase_since_s = 0.0
        self._unplug_after_s = 0.0
        self._next_plug_s = rng.uniform(0, 7_200)
        self._taken_over = False
        """Only the story plugs and unplugs here any more."""
        self._mains_v = MAINS_V + rng.gauss(0, 2)
        self._heat_c_per_s = self._heat_limit_c = 0.0
        self._burning = self._no_taper = self._welded = self._faulted = False
        self._runaway: tuple[float, float, float] | None = None
        self._fault_v: float | None = None
        self._leakage_ma = rng.uniform(0.1, 0.6)
        self._leak_fault_ma = 0.0
        self._reported_c = self.temperature_c
        if rng.random() < IN_USE:
            self._plug()
            self._enter(Phase.BULK)
            self._got_wh = rng.uniform(0, 0.8) * self._need_wh
            self._draw(0.0)
            self.temperature_c = self._reported_c = self.ambient_c + HEATING_K_PER_W * self.power_w
            self._status = self._status_now()

    # --- the session --------------------------------------------------------------------------------------

    def _plug(self) -> None:
        """Somebody connects a battery: 48 to 72 V, 12 to 32 Ah, emptied by 30 to 95 %.

        Its charger fits it: 4 to 6 hours from empty, at most 5 A. So every sound battery tapers within six hours.
        """
        volts, amp_hours = self.rng.choice((48, 60, 72)), self.rng.uniform(12, 32)
        self._bulk_w = volts * 1.15 * min(5.0, amp_hours / self.rng.uniform(4, 6)) / 0.88
        self._need_wh = volts * amp_hours * self.rng.uniform(0.3, 0.95) / 0.88
        self._got_wh = 0.0
        self._unplug_after_s = self.rng.uniform(300, 14_400)
        self._session = f"{self.rng.getrandbits(32):08x}"
        self._enter(Phase.PLUGGED)

    def _plug_as(self, given: Mapping[str, float]) -> None:
        """As told: W in bulk, kWh to fill it, how long it stays plugged in once it is full; 0: as it comes."""
        self._plug()
        self._bulk_w = given["watts"] or self._bulk_w
        self._need_wh = given["needs"] * 1_000 or self._need_wh
        if not math.isnan(given["stays"]):
            self._unplug_after_s = given["stays"]

    def _unplug(self) -> None:
        self._session = ""
        pause_s = self.rng.expovariate(1 / 5_400)
        self._next_plug_s = math.inf if self._taken_over else self.now_s + pause_s
        self._enter(Phase.IDLE)

    def _enter(self, phase: Phase) -> None:
        self.phase, self._phase_since_s = phase, self.now_s

    def _step(self, passed_s: float) -> float:
        self._charge(passed_s)
        if self._runaway is not None and self.now_s >= self._runaway[0]:
            _, self._heat_c_per_s, self._heat_limit_c = self._runaway
            self._burning, self._runaway = True, None
        self._warm(passed_s)
        if (status := self._status_now()) is not self._status:
            self._status = status
            self.report()
        if abs(self.temperature_c - self._reported_c) >= REPORT_K:
            self.report()
        settled = abs(self.temperature_c - self._target_c()) < REPORT_K / 4
        if self._heat_c_per_s:
            return self.now_s + 1
        if not settled:
            return self.now_s + WARMING_STEP_S
        if self.phase is Phase.IDLE and not self.power_w:
            return min(self._next_plug_s, self.now_s + 300)
        return self.now_s + (5 if self.phase is Phase.PLUGGED else SETTLED_STEP_S)

    def _charge(self, passed_s: float) -> None:
        self._draw(passed_s)
        before = self.phase
        in_phase_s = self.now_s - self._phase_since_s
        match self.phase:
            case Phase.IDLE if self.now_s >= self._next_plug_s:
                self._plug()
            case Phase.PLUGGED if in_phase_s >= CHECKS_S and not self.cut:
                self._enter(Phase.BULK)
            case Phase.BULK if self._got_wh >= BULK_SHARE * self._need_wh and not self._no_taper:
                self._enter(Phase.TAPER)
            case Phase.TAPER if self.power_w <= FULL_SHARE * self._bulk_w and not self.cut:
                self._enter(Phase.FLOAT)
            case Phase.FLOAT if in_phase_s >= min(FLOAT_ENDS_S, self._unplug_after_s):
                self._enter(Phase.ENDED)
            case Phase.ENDED if in_phase_s >= max(0.0, self._unplug_after_s - FLOAT_ENDS_S):
                self._unplug()
        if self.phase is not before:
            self._draw(0.0)

    def _draw(self, passed_s: float) -> None:
        """Integrate the power over the time that passed, then find the power of now."""
        before_w = self.power_w
        if self.cut or not self.powered:
            power_w = before_w = 0.0
        else:
            match self.phase:
                case Phase.BULK:
                    power_w = self._bulk_w * (1 + BULK_RISE * min(1.0, self._got_wh / self._need_wh))
                case Phase.TAPER:
                    rest_wh = (1 - BULK_SHARE) * self._need_wh
                    power_w = before_w * math.exp(-passed_s * self._bulk_w / (rest_wh * 3_600))
                    power_w = power_w or self._bulk_w  # after a cut it begins anew
                case Phase.FLOAT:
                    power_w = FLOAT_W
                case _:
                    power_w = 0.0
        gained_wh = (before_w + power_w) / 2 * passed_s / 3_600
        self._got_wh += gained_wh
        self.energy_kwh += gained_wh / 1_000
        self.power_w = power_w

    def _status_now(self) -> ChargePointStatus:
        if self._faulted:
            return ChargePointStatus.FAULTED
        if self.cut:
            idle = self.phase is Phase.IDLE
            return ChargePointStatus.UNAVAILABLE if idle else ChargePointStatus.SUSPENDED_EVSE
        return STATUSES[self.phase]

    # --- the heat -----------------------------------------------------------------------------------------

    def _target_c(self) -> float:
        return self.ambient_c + HEATING_K_PER_W * self.power_w

    def _warm(self, passed_s: float) -> None:
        fed = self._burning or not (self.cut or self.phase is Phase.IDLE or not self.powered)
        if self._heat_c_per_s and fed:
            # The heat source outweighs what the port gives off: a straight rise up to its limit.
            risen = self.temperature_c + self._heat_c_per_s * passed_s
            self.temperature_c = max(self.temperature_c, min(self._heat_limit_c, risen))
            return
        target = self._target_c()
        self.temperature_c = target + (self.temperature_c - target) * math.exp(-passed_s / THERMAL_S)

    # --- what it says, suffers and obeys ------------------------------------------------------------------

    def _points(self) -> dict[str, Scalar]:
        self._reported_c = self.temperature_c
        voltage = self._mains_v - 0.002 * self.power_w + self.rng.gauss(0, 0.8)
        if self._fault_v is not None:
            voltage = self._fault_v
        power = max(0.0, self.power_w * (1 + self.rng.gauss(0, 0.003)))
        leakage = self._leak_fault_ma or self._leakage_ma
        error = ChargePointError.NO_ERROR
        if leakage > GROUND_FAILURE_MA:
            error = ChargePointError.GROUND_FAILURE
        if self.temperature_c >= HOT_C:
            error = ChargePointError.HIGH_TEMPERATURE
        if self._status is ChargePointStatus.FAULTED:
            error = ChargePointError.POWER_SWITCH_FAILURE
        return {
            "voltage": round(voltage, 1),
            "current": round(min(99.0, power / (max(voltage, 1.0) * POWER_FACTOR)), 3),
            "power": round(power, 1),
            "energy": round(self.energy_kwh, 4),
            "temperature": round(self.temperature_c + self.rng.gauss(0, 0.05), 1),
            "leakage": round(abs(leakage + self.rng.gauss(0, 0.02)), 2),
            "status": self._status.value,
            "error": error.value,
            "session": self._session,
        }

    def _happen(self, name: str, given: Mapping[str, float]) -> None:
        match name:
            case "none":
                self._heat_c_per_s = self._leak_fault_ma = 0.0
                self._burning = self._no_taper = self._welded = self._faulted = False
                self._runaway = self._fault_v = None
            case "overheat" | "runaway":
                if self.phase is Phase.IDLE:
                    self._plug()
                self._heat_c_per_s, self._heat_limit_c = given["rate"], given["limit"]
                self._burning = name == "runaway"
            case "failing_battery":
                if self.phase is Phase.IDLE:
                    self._plug()
                self._no_taper = True
                self._heat_c_per_s, self._heat_limit_c = FAILING_C_PER_S, FAILING_LIMIT_C
                self._runaway = (self.now_s + given["after"], given["rate"], given["limit"])
            case "no_taper":
                self._no_taper = True
            case "over_voltage" | "under_voltage":
                self._fault_v = given["voltage"]
            case "broken":
                self._faulted = True
            case "leakage":
                self._leak_fault_ma = given["current"]
            case "welded":
                self._welded = True
            case "plug":
                self._plug_as(given)
                self._taken_over = True
            case "unplug":
                self._taken_over = True
                self._unplug()
        self.report()

    def _obey(self, command: str, _args: Mapping[str, Scalar]) -> Outcome:
        cut = command == "cut_power"
        if cut == self.cut:
            return Outcome(Status.DONE, "already so")
        if cut and self._welded:
            self._faulted = True
            return Outcome(Status.FAILED, "the relay is welded, power still flows")
        if not cut and self.temperature_c >= RESTORE_BELOW_C:
            return Outcome(
                Status.REJECTED, f"still {self.temperature_c:.0f} °C, below {RESTORE_BELOW_C:.0f} first"
            )
        self.cut = cut
        return Outcome(Status.DONE)
