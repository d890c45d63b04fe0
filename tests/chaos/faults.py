"""The injectors: for every fault of the plan how it begins and how it ends."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle
from random import Random

import psutil

from tests.chaos.cloud import ANSWERS
from tests.chaos.disk import Mode
from tests.chaos.plan import Fault, Step, target_of
from tests.chaos.proxy import Proxy, Weather
from tests.chaos.traffic import BABBLER
from tests.chaos.world import World

STORM = 8_000
SMALL_STORM = 400
ENDS_S = 60.0
"""A gateway whose disk hangs cannot end before the disk answers."""

_CHILDREN = {"web": "edge.web.process", "bridge": "edge.bridge_process"}
_DISK = {
    Fault.DISK_FULL: Mode.FULL,
    Fault.DISK_READ_ONLY: Mode.READ_ONLY,
    Fault.DISK_FAILING: Mode.FAILING,
    Fault.SYNC_SLOW: Mode.SLOW_SYNC,
    Fault.SYNC_HANGS: Mode.HANGING_SYNC,
}
_WEATHER = {
    Fault.GATEWAY_PARTITION: Weather.PARTITION,
    Fault.GATEWAY_LATENCY: Weather.LATENCY,
    Fault.GATEWAY_STALLS: Weather.STALLS,
    Fault.DEVICE_PARTITION: Weather.PARTITION,
    Fault.DEVICE_LATENCY: Weather.LATENCY,
    Fault.DEVICE_STALLS: Weather.STALLS,
    Fault.CLOUD_PARTITION: Weather.PARTITION,
    Fault.CLOUD_LATENCY: Weather.LATENCY,
}

End = Callable[[], None]


class Injector:
    """Begins faults in ``world``; ``storm`` is how many devices a reconnect storm has."""

    def __init__(self, world: World, seed: int, *, storm: int) -> None:
        self._world = world
        self._chance = Random(seed)
        self._storm = storm
        self._answers = cycle(Random(seed).sample(sorted(ANSWERS), len(ANSWERS)))
        """Of the cloud store: each once before any comes twice."""
        self._ends: list[tuple[float, Step, End]] = []

    def begin(self, step: Step, now_s: float) -> None:
        """Do it now; its end is due with `end_due`. What still strikes its target, having begun late, ends first."""
        target = target_of(step.fault)
        self._end([each for each in self._ends if target_of(each[1].fault) is target])
        if (end := self._start(step)) is not None:
            self._ends.append((now_s + step.for_s, step, end))

    def end_due(self, now_s: float) -> list[Step]:
        """End what has lasted long enough; which."""
        return self._end([each for each in self._ends if each[0] <= now_s])

    def _end(self, ending: Sequence[tuple[float, Step, End]]) -> list[Step]:
        self._ends = [each for each in self._ends if each not in ending]
        for _, _, end in ending:
            end()
        return [step for _, step, _ in ending]

    @property
    def active(self) -> bool:
        """Whether a fault has not ended."""
        return bool(self._ends)

    def _start(self, step: Step) -> End | None:  # noqa: PLR0911 - a list of faults
        world = self._world
        match step.fault:
            case Fault.GATEWAY_KILLED:
                world.supervised = False
                world.crash()
                return self._launch
            case Fault.GATEWAY_RESTARTED:
                world.supervised = False
                world.gateway.terminate(ENDS_S)
                return self._launch
            case Fault.POWER_CUT:
                world.supervised = False
                world.kill_tree()
                world.notes.unsynced += world.disk.lose_power(self._chance)
                return self._launch
            case Fault.GATEWAY_STOPPED:
                return _stop(world.gateway.pid)
            case Fault.WEB_KILLED | Fault.BRIDGE_KILLED | Fault.WEB_STOPPED | Fault.BRIDGE_STOPPED:
                name, _, what = step.fault.partition("-")
                return self._child(name, what)
            case Fault.BROKER_KILLED:
                saved = world.saved_ms()
                world.broker.kill9()
                return lambda: self._revive_broker(saved)
            case Fault.BROKER_RESTARTED:
                world.broker.stop()
                return world.broker.start
            case Fault.BROKER_STOPPED:
                return _stop(world.broker.pid)
            case Fault.CLOUD_KILLED:
                world.cloud.kill9()
                return world.cloud.start
            case Fault.CLOUD_STOPPED:
                return _stop(world.cloud.pid)
            case Fault.CLOUD_ERRORS:
                world.cloud.answer(next(self._answers))
                return lambda: world.cloud.answer("usual")
            case fault if fault in _DISK:
                return self._sicken_disk(step)
            case fault if fault in _WEATHER:
                return _weather(self._network(fault), _WEATHER[fault])
            case Fault.GATEWAY_HALF_OPEN | Fault.DEVICE_HALF_OPEN | Fault.CLOUD_HALF_OPEN:
                network = self._network(step.fault)
                network.half_open()
                return network.forget_half_open
            case _:
                return self._stir(step)

    def _stir(self, step: Step) -> End | None:
        """Faults of the devices and of the clock."""
        world, traffic = self._world, self._world.traffic
        match step.fault:
            case Fault.RECONNECT_STORM:
                world.storm(self._storm)
                return None
            case Fault.DUPLICATES:
                traffic.duplicating = True
                return lambda: setattr(traffic, "duplicating", False)
            case Fault.REORDERING:
                traffic.reordering = True
                return lambda: setattr(traffic, "reordering", False)
            case Fault.CORRUPT:
                traffic.corrupting = True
                return lambda: setattr(traffic, "corrupting", False)
            case Fault.FLOOD:
                traffic.flooding = f"{BABBLER}{int(step.amount * 10)}"
                return lambda: setattr(traffic, "flooding", None)
            case Fault.CLOCK_FORWARD | Fault.CLOCK_BACK | Fault.CLOCK_1970:
                return self._step_clock(step)
            case fault:
                raise ValueError(f"no injector for {fault}")

    def _launch(self) -> None:
        self._world.gateway.launch()
        self._world.supervised = True

    def _revive_broker(self, saved_ms: int) -> None:
        self._world.notes.deaths.append((saved_ms, time.time_ns() // 1_000_000))
        self._world.broker.start()

    def _child(self, name: str, what: str) -> End | None:
        world = self._world
        if world.gateway.process is None or world.gateway.ended:
            return None
        for process in psutil.Process(world.gateway.pid).children(recursive=True):
            try:
                if _CHILDREN[name] in process.cmdline():
                    if what == "stopped":
                        return _stop(process.pid)
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        return None

    def _network(self, fault: Fault) -> Proxy:
        world = self._world
        match fault.partition("-")[0]:
            case "gateway":
                return world.gateway_network
            case "device":
                return world.device_network
            case _:
                return world.cloud_network

    def _sicken_disk(self, step: Step) -> End:
        disk = self._world.disk
        disk.order(
            _DISK[step.fault],
            delay_ms=int(20 + step.amount * 480),
            free_bytes=int(step.amount * 200_000),
            freed_counts=step.amount < 0.5,
        )
        return lambda: disk.order(Mode.WELL)

    def _step_clock(self, step: Step) -> End | None:
        world = self._world
        clock = world.clock
        assert clock is not None, "clock faults need libfaketime"
        if step.fault is Fault.CLOCK_1970:
            world.supervised = False
            world.crash()
            clock.begin_in_1970()
            self._launch()
        else:
            clock.step((1 if step.fault is Fault.CLOCK_FORWARD else -1) * (5 + step.amount * 7_200))
        return lambda: clock.step(0)


def _stop(pid: int) -> End | None:
    try:
        process = psutil.Process(pid)
        process.suspend()
    except psutil.NoSuchProcess:
        return None

    def thaw() -> None:
        if process.is_running():  # a child may have been ended meanwhile
            process.resume()

    return thaw


def _weather(network: Proxy, weather: Weather) -> End:
    network.be(weather)
    return lambda: network.be(Weather.FAIR)
