"""A community of 8,000 devices as seen on the wire: who speaks how often, and what is said.

Deterministic but for the time. ``ts`` rises by at least one millisecond from message to message of a device,
so (address, ts) names a message: in the publishers' ledger, in the journal and in the cloud store, without
a field that real devices do not send. Mixed traffic: six messages in ten come from charging ports, the rest
from lift cameras, smoke sensors and alarm buttons; more than one in a hundred is an event, and one in a
thousand begins or ends an alarm.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

SITE = "c1"
PREFIX = "community"

DEVICES: Mapping[str, int] = {"charger": 2_500, "smoke": 3_500, "button": 1_600, "elevator": 400}
"""How many there are of each kind."""

OFTEN: Mapping[str, int] = {"charger": 5, "smoke": 1, "button": 1, "elevator": 10}
"""Telemetry messages of one device while every smoke sensor sends one."""

EVENT_EVERY = 20
"""So many messages of a button or a lift hold one event."""

FAULTY_CHARGERS = 4
"""Ports that are faulted in every other message, which begins and ends an alarm."""

VARIANTS = 2_048
"""Different sets of values a kind; the journal's compression must not see the same ones all the time."""


class Message(NamedTuple):
    """One message to be published."""

    topic: str
    payload: bytes
    address: str
    ts: int


@dataclass(slots=True)
class _Device:
    address: str
    kind: str
    last_ts: int
    own: bytes
    """The end of its payload: what changes slowly in life."""
    faulty: bool = False
    said: int = 0


def addresses(kind: str, count: int | None = None) -> list[str]:
    """The first ``count`` addresses of a kind (all of them without it)."""
    return [f"{SITE}/{kind}/{kind[:2]}{number:05d}" for number in range(count or DEVICES[kind])]


def registry() -> str:
    """A registry file with all devices and their places."""
    places = [f'  - {{building: "{number}", unit: "1", floors: "1-33"}}' for number in range(1, 25)]
    devices = []
    for kind in DEVICES:
        for number, address in enumerate(addresses(kind)):
            building, floor = number % 24 + 1, number // 24 % 33 + 1
            name = address.rsplit("/", 1)[1]
            devices.append(
                f'  - {{id: {name}, kind: {kind}, building: "{building}", unit: "1", floor: "{floor}"}}'
            )
    return "\n".join(["places:", *places, "devices:", *devices, ""])


def messages(share: int, shares: int, now_ms: Callable[[], int]) -> Iterator[Message]:
    """What every ``shares``-th device says, without end; ``share`` (from 0) says which of them."""
    rng = random.Random(share)
    order = [
        _Device(address, kind, 0, _slow(kind, number), faulty=kind == "charger" and number < FAULTY_CHARGERS)
        for kind in DEVICES
        for number, address in enumerate(addresses(kind))
        if number % shares == share
    ]
    order = [device for device in order for _ in range(OFTEN[device.kind])]
    rng.shuffle(order)
    values = {kind: cycle([_quick(kind, rng) for _ in range(VARIANTS)]) for kind in DEVICES}
    for device in cycle(order):
        ts = device.last_ts = max(now_ms(), device.last_ts + 1)
        device.said += 1
        if device.kind in _EVENTS and device.said % EVENT_EVERY == 0:
            yield Message(
                f"{PREFIX}/{device.address}/event",
                _EVENTS[device.kind] % (ts, device.said),
                device.address,
                ts,
            )
            continue
        own = device.own
        if device.faulty and device.said % 2:
            own = own.replace(b"Charging", b"Faulted")
        payload = b'{"ts":%d,%b,%b' % (ts, next(values[device.kind]), own)
        yield Message(f"{PREFIX}/{device.address}/telemetry", payload, device.address, ts)


def babble(now_ms: Callable[[], int]) -> Iterator[Message]:
    """What one smoke sensor, the last one, says that has run wild."""
    address = addresses("smoke")[-1]
    ts = 0
    while True:
        ts = max(now_ms(), ts + 1)
        payload = b'{"ts":%d,"smoke":false,"density":%.4f,"temperature":21.5}' % (ts, ts % 200 / 10_000)
        yield Message(f"{PREFIX}/{address}/telemetry", payload, address, ts)


_EVENTS = {
    "button": b'{"ts":%d,"action":"check_in","press":%d}',
    "elevator": b'{"ts":%d,"type":"new","track":"t%d","label":"person","score":0.91}',
}


def _quick(kind: str, rng: random.Random) -> bytes:
    """What differs from message to message."""
    fields: dict[str, object]
    match kind:
        case "charger":
            voltage, current = round(rng.uniform(224, 236), 1), round(rng.uniform(1.2, 2.4), 2)
            fields = {
                "voltage": voltage,
                "current": current,
                "power": round(voltage * current, 1),
                "energy": round(rng.uniform(0, 2), 3),
                "leakage": round(rng.uniform(0, 2), 1),
            }
        case "smoke":
            fields = {
                "smoke": False,
                "density": round(rng.uniform(0, 0.02), 4),
                "temperature": round(rng.uniform(18, 27), 1),
                "linkquality": rng.randrange(80, 255),
            }
        case "button":
            fields = {"linkquality": rng.randrange(80, 255), "activity": rng.randrange(40)}
        case _:
            fields = {"door": rng.choice(["open", "closed"]), "floor": rng.randrange(1, 34)}
    return json.dumps(fields, separators=(",", ":")).encode()[1:-1]


def _slow(kind: str, number: int) -> bytes:
    """What stays from message to message of one device, and the end of its payload."""
    fields: dict[str, object]
    match kind:
        case "charger":
            fields = {"temperature": 25 + number % 150 / 10, "status": "Charging"}
        case "smoke":
            fields = {"battery": 60 + number % 40, "battery_low": False, "tamper": False, "fault": False}
        case "button":
            fields = {"battery": 60 + number % 40, "battery_low": False, "worn": True}
        case _:
            fields = {"blocking": False, "fire_recall": False, "stream": "ok"}
    return json.dumps(fields, separators=(",", ":")).encode()[1:]
