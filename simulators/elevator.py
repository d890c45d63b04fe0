"""A lift car with its door and the camera that follows who is in it.

Passengers call by the hours of the day. Each becomes a track (``new``, ``update`` …, ``end``) with a label
and a score; most are persons, some push a stroller, a bicycle or sit in a wheelchair. E-bikes come only when
a scenario brings them, so that a normal day raises nothing.

Who forces the door (``force``) goes with an e-bike although the door is held.
`hold_door` keeps the door open (``blocking``) until its seconds are over or `release_door` comes; a fire
recall sends the car down, opens it, drops every hold and refuses new ones (docs/figures.md, D1).
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from devices.readings import Channel, Scalar
from simulators.device import FAULTS, POWER, Device, Happenings, Outcome, Parameter, Status

# Trips an hour, by hour of the day.
TRAFFIC = (2, 1, 1, 1, 2, 6, 18, 40, 34, 20, 16, 22, 26, 16, 14, 18, 24, 38, 40, 30, 22, 14, 8, 4)
FLOOR_S = 1.6
DWELL_S = 6.0
BOARDING_S = 1.2
"""From the open door to the first sight of a passenger; recognition takes 1 to 2 s."""
CLOSING_S = 2.0
"""From the release of the door to its closing."""
HOLD_S = 60
"""How long `hold_door` holds if it does not say."""
GROUND = 1
DOWN_SHARE = 0.5
"""Part of the trips that lead down and out."""
CALLS_LIMIT = 8

SCORES: Mapping[str, float] = MappingProxyType(
    {"person": 0.94, "ebike": 0.9, "bicycle": 0.86, "stroller": 0.85, "wheelchair": 0.88}
)
COMPANY: Mapping[str, float] = MappingProxyType({"stroller": 0.05, "bicycle": 0.04, "wheelchair": 0.02})
"""How likely an ordinary passenger brings one."""
UPDATE_S: Mapping[str, float] = MappingProxyType({"person": 5.0})
"""How often a track is updated; others every 2 s."""


@dataclass(slots=True)
class Passenger:
    """Something that the camera follows."""

    track: str
    label: str
    update_at_s: float
    to_floor: int | None
    """Where it gets off; None: where the car is when its time is up."""
    leaves_at_s: float
    force_at_s: float = math.inf
    """When it has the door closed although it is held."""
    score: float = 0.0
    """How sure the camera is; 0: as usual."""


class Elevator(Device):
    """One lift car."""

    kind: ClassVar[str] = "elevator"
    usual_interval_s: ClassVar[float] = 60.0
    mains: ClassVar[bool] = True
    happenings: ClassVar[Happenings] = {
        "fault": {
            **FAULTS,
            "stream_lost": {},
            "fire_recall": {},
            "propped": {"for": Parameter(180, 1, 86_400)},
        },
        "passenger": {
            label: {
                "stay": Parameter(15, 1, 3_600),
                "force": Parameter(math.inf, 0, math.inf),
                "score": Parameter(0, 0, 1, "share"),
            }
            for label in SCORES
        },
        "power": POWER,
    }

    def __init__(
        self,
        rng: random.Random,
        *,
        interval_s: float | None = None,
        starts_at_s: float = 0.0,
        floors: int = 18,
    ) -> None:
        super().__init__(rng, interval_s=interval_s, starts_at_s=starts_at_s)
        self.floor = rng.randint(GROUND, floors)
        self.open = False
        self.fire_recall = False
        self.stream = True
        self.passengers: list[Passenger] = []
        self._floors = floors
        self._target: int | None = None
        self._floor_at_s = math.inf
        self._close_at_s = math.inf
        self._board_at_s = math.inf
        self._hold_until_s = self._propped_until_s = -math.inf
        self._waiting: list[tuple[str, Mapping[str, float]]] = []
        self._call_at_s = self._next_call()
        self._calls: list[int] = []
        self._blocked = False

    @property
    def blocking(self) -> bool:
        """The door stands open because somebody or something holds it."""
        return self.open and self.now_s < max(self._hold_until_s, self._propped_until_s)

    def _next_call(self) -> float:
        return self.now_s + self.rng.expovariate(TRAFFIC[int(self.hour)] / 3_600)

    # --- the car ------------------------------------------------------------------------------------------

    def _step(self, passed_s: float) -> float:
        del passed_s  # everything in it has its moment
        if not self.powered:
            return math.inf
        if self.now_s >= self._call_at_s:
            call = self.rng.randint(GROUND, self._floors)
            if len(self._calls) < CALLS_LIMIT:
                self._calls.append(call)
            self._call_at_s = self._next_call()
        if self._target is not None and self.now_s >= self._floor_at_s:
            self._pass_floor()
        if self.open:
            self._exchange()
            if any(one.force_at_s <= self.now_s for one in self.passengers):
                self._force()
            if self.now_s >= self._close_at_s and not self.blocking and not self.fire_recall:
                self._close()
        if not self.open and self._target is None:
            self._depart()
        self._follow()
        if self._blocked != self.blocking:
            self._blocked = self.blocking
            self.report()
        return self._next_moment()

    def _next_moment(self) -> float:
        moments = [self._call_at_s, self._floor_at_s, self._board_at_s, self._close_at_s]
        moments += [self._hold_until_s, self._propped_until_s]
        moments += [passenger.update_at_s for passenger in self.passengers]
        moments += [passenger.leaves_at_s for passenger in self.passengers]
        moments += [passenger.force_at_s for passenger in self.passengers]
        return min((moment for moment in moments if moment > self.now_s), default=math.inf)

    def _pass_floor(self) -> None:
        target = self._target if self._target is not None else self.floor
        self.floor += (target > self.floor) - (target < self.floor)
        wanted = (
            self._waiting or self._held() or any(one.leaves_at_s <= self.now_s for one in self.passengers)
        )
        if self.floor == target or (wanted and not self.fire_recall):
            self._target, self._floor_at_s = None, math.inf
            self._open()
        else:
            self._floor_at_s = self.now_s + FLOOR_S

    def _held(self) -> bool:
        return self.now_s < max(self._hold_until_s, self._propped_until_s)

    def _open(self) -> None:
        self.open = True
        self._board_at_s = self.now_s + BOARDING_S
        self._close_at_s = self.now_s + DWELL_S
        self.report()

    def _force(self) -> None:
        self._hold_until_s = self._propped_until_s = -math.inf
        self._close_at_s = self.now_s
        for one in self.passengers:
            if one.force_at_s <= self.now_s:
                one.force_at_s = math.inf

    def _powered(self, *, on: bool) -> None:
        """The car stands; the camera forgets whom it followed, and no track of theirs ever ends."""
        if not on:
            self.passengers.clear()
            self._waiting.clear()
            self._calls.clear()
            self.open, self._target = False, None
            self._floor_at_s = self._board_at_s = self._close_at_s = math.inf
            self._hold_until_s = self._propped_until_s = -math.inf
        else:
            self._call_at_s = self._next_call()

    def _close(self) -> None:
        self.open = False
        self._close_at_s = self._board_at_s = math.inf
        self.report()

    def _depart(self) -> None:
        """From a closed door: open it where somebody waits, else go where somebody wants to go."""
        riders = [one.to_floor for one in self.passengers if one.to_floor is not None]
        if self.fire_recall:
            target = GROUND
        elif self._waiting or self._held():
            target = self.floor
        elif riders:
            target = riders[0]
        elif self.passengers:
            target = self.rng.choice(
                [floor for floor in range(GROUND, self._floors + 1) if floor != self.floor]
            )
        elif self._calls:
            target = self._calls[0]
        else:
            return
        if target == self.floor:
            self._open()
        else:
            self._target, self._floor_at_s = target, self.now_s + FLOOR_S

    # --- who is in it -------------------------------------------------------------------------------------

    def _exchange(self) -> None:
        for one in list(self.passengers):
            if self.fire_recall or self.floor == one.to_floor or one.leaves_at_s <= self.now_s:
                self.passengers.remove(one)
                self._tell("end", one)
        if self.now_s < self._board_at_s or self.fire_recall:
            return
        self._board_at_s = math.inf
        for label, given in self._waiting:
            self._board(label, None, self.now_s + given["stay"], given["score"])
            self.passengers[-1].force_at_s = self.now_s + given["force"]
        self._waiting.clear()
        if self.floor in self._calls:
            self._calls = [call for call in self._calls if call != self.floor]
            floors = [floor for floor in range(GROUND, self._floors + 1) if floor != self.floor]
            to_floor = (
                GROUND if self.floor != GROUND and self.rng.random() < DOWN_SHARE else self.rng.choice(floors)
            )
            self._board("person", to_floor, math.inf)
            for label, chance in COMPANY.items():
                if self.rng.random() < chance:
                    self._board(label, to_floor, math.inf)

    def _board(self, label: str, to_floor: int | None, leaves_at_s: float, score: float = 0.0) -> None:
        track = f"{self.rng.getrandbits(40):010x}"
        due_s = self.now_s + UPDATE_S.get(label, 2.0)
        one = Passenger(track, label, due_s, to_floor, leaves_at_s, score=score)
        self.passengers.append(one)
        self._tell("new", one)

    def _follow(self) -> None:
        for one in self.passengers:
            if self.now_s >= one.update_at_s:
                one.update_at_s = self.now_s + UPDATE_S.get(one.label, 2.0)
                self._tell("update", one)

    def _tell(self, kind: str, one: Passenger) -> None:
        score = min(0.99, max(0.5, self.rng.gauss(SCORES[one.label], 0.03)))
        if one.score:
            score = one.score
        if self.stream:
            event: dict[str, Scalar] = {
                "type": kind,
                "track": one.track,
                "label": one.label,
                "score": round(score, 2),
            }
            self._say(Channel.EVENT, event)

    # --- what it says, suffers and obeys ------------------------------------------------------------------

    def _points(self) -> dict[str, Scalar]:
        return {
            "door": "open" if self.open else "closed",
            "floor": self.floor,
            "blocking": self.blocking,
            "fire_recall": self.fire_recall,
            "stream": "ok" if self.stream else "lost",
        }

    def _happen(self, name: str, given: Mapping[str, float]) -> None:
        if name in SCORES:
            self._waiting.append((name, given))
            if self.open:
                self._board_at_s = min(self._board_at_s, self.now_s + BOARDING_S)
                self._close_at_s = max(self._close_at_s, self._board_at_s + DWELL_S)
            return
        match name:
            case "none":
                self.stream, self.fire_recall, self._propped_until_s = True, False, -math.inf
            case "stream_lost":
                self.stream = False
            case "fire_recall":
                self.fire_recall = True
                self._hold_until_s = self._propped_until_s = -math.inf
                self._waiting.clear()
                self._calls.clear()
                if self.open and self.floor != GROUND:
                    self._close()
                elif self._target is not None:
                    self._target = GROUND
            case "propped":
                self._propped_until_s = self.now_s + given["for"]
        self.report()

    def _obey(self, command: str, args: Mapping[str, Scalar]) -> Outcome:
        if command == "hold_door":
            if self.fire_recall:
                return Outcome(Status.REJECTED, "fire recall")
            self._hold_until_s = self.now_s + float(args.get("seconds", HOLD_S))
        else:
            self._hold_until_s = -math.inf
            if self.open:
                self._close_at_s = max(self.now_s + CLOSING_S, min(self._close_at_s, self.now_s + DWELL_S))
        return Outcome(Status.DONE)
