"""What goes wrong when: a plan made of a seed. Pure, so the same seed gives the same plan everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Target(StrEnum):
    """What a fault strikes; two faults of one target never overlap."""

    GATEWAY = "gateway"
    WEB = "web"
    BRIDGE = "bridge"
    BROKER = "broker"
    CLOUD = "cloud"
    GATEWAY_NETWORK = "network of the gateway"
    DEVICE_NETWORK = "network of the devices"
    DEVICES = "devices"


class Fault(StrEnum):
    """Everything that can go wrong here."""

    GATEWAY_KILLED = "gateway-killed"
    GATEWAY_STOPPED = "gateway-stopped"
    GATEWAY_RESTARTED = "gateway-restarted"
    WEB_KILLED = "web-killed"
    WEB_STOPPED = "web-stopped"
    BRIDGE_KILLED = "bridge-killed"
    BRIDGE_STOPPED = "bridge-stopped"
    BROKER_KILLED = "broker-killed"
    BROKER_STOPPED = "broker-stopped"
    BROKER_RESTARTED = "broker-restarted"
    CLOUD_KILLED = "cloud-killed"
    CLOUD_STOPPED = "cloud-stopped"
    CLOUD_ERRORS = "cloud-errors"
    CLOUD_PARTITION = "cloud-partition"
    CLOUD_LATENCY = "cloud-latency"
    CLOUD_HALF_OPEN = "cloud-half-open"
    DISK_FULL = "disk-full"
    DISK_READ_ONLY = "disk-read-only"
    DISK_FAILING = "disk-failing"
    SYNC_SLOW = "sync-slow"
    SYNC_HANGS = "sync-hangs"
    POWER_CUT = "power-cut"
    GATEWAY_PARTITION = "gateway-partition"
    GATEWAY_LATENCY = "gateway-latency"
    GATEWAY_STALLS = "gateway-stalls"
    GATEWAY_HALF_OPEN = "gateway-half-open"
    DEVICE_PARTITION = "device-partition"
    DEVICE_LATENCY = "device-latency"
    DEVICE_STALLS = "device-stalls"
    DEVICE_HALF_OPEN = "device-half-open"
    CLOCK_FORWARD = "clock-forward"
    CLOCK_BACK = "clock-back"
    CLOCK_1970 = "clock-1970"
    RECONNECT_STORM = "reconnect-storm"
    DUPLICATES = "duplicates"
    REORDERING = "reordering"
    FLOOD = "flood"
    CORRUPT = "corrupt"


_TARGETS: Mapping[str, Target] = {
    "gateway": Target.GATEWAY,
    "web": Target.WEB,
    "bridge": Target.BRIDGE,
    "broker": Target.BROKER,
    "cloud": Target.CLOUD,
    "disk": Target.GATEWAY,
    "sync": Target.GATEWAY,
    "power": Target.GATEWAY,
    "clock": Target.GATEWAY,
    "device": Target.DEVICE_NETWORK,
}
_NETWORK = ("partition", "latency", "stalls", "half-open")
_INSTANT = {Fault.RECONNECT_STORM, Fault.DUPLICATES, Fault.REORDERING, Fault.FLOOD, Fault.CORRUPT}
_REST_S = {Target.GATEWAY: 2.5, Target.BROKER: 2.0, Target.GATEWAY_NETWORK: 2.5, Target.DEVICE_NETWORK: 1.0}
"""After a fault its target is left alone for so long: what never recovers proves nothing."""


def target_of(fault: Fault) -> Target:
    """What it strikes."""
    first, _, rest = fault.partition("-")
    if fault in _INSTANT:
        return Target.DEVICES
    if first == "gateway" and rest in _NETWORK:
        return Target.GATEWAY_NETWORK
    return _TARGETS[first]


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: from ``at_s`` after the begin, for ``for_s``. ``amount`` (0 to 1) is the injector's to read."""

    at_s: float
    fault: Fault
    for_s: float
    amount: float

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.fault} for {self.for_s:.1f} s ({self.amount:.2f})"


def faults_of(only: Sequence[str]) -> tuple[Fault, ...]:
    """Those named, or all. Raises `ValueError` for a name that is none."""
    return tuple(map(Fault, only)) if only else tuple(Fault)


def make_plan(
    seed: int, seconds: float, faults: Sequence[Fault], *, longest_s: float = 30.0, pause_s: float = 10.0
) -> list[Step]:
    """Steps in order, all over by ``seconds``. Each target has a row of its own, with pauses of up to
    ``pause_s``; of its faults each comes once before any comes twice.
    """
    chance = Random(seed)
    steps: list[Step] = []
    for target in Target:
        mine = [fault for fault in faults if target_of(fault) is target]
        at = chance.uniform(0.5, pause_s)
        while mine and at < seconds:
            chance.shuffle(mine)
            for fault in mine:
                for_s = chance.uniform(0.3, 1.0) ** 2 * longest_s
                if at + for_s <= seconds:
                    steps.append(Step(round(at, 2), fault, round(for_s, 2), round(chance.random(), 3)))
                at += for_s + _REST_S.get(target, 0.5) + chance.uniform(0, pause_s)
    return sorted(steps, key=lambda step: (step.at_s, step.fault))
