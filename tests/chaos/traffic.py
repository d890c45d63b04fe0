"""What a community says: telemetry of mixed kinds, and deliberate dangers of which the ledger knows the alarms.

Each message carries a number of its own (``n``), which the journal keeps with the reading, and its time; two of three
carry an ``id``. What the gateway knows again (docs/adr/0022) is said again after a broken connection, as a careful
device does. A danger has a device of its own, so its alarm must be raised once and never again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

SITE = "c1"
CHARGERS = 120
BABBLER = "flood"
"""The devices that babble have a number after it."""
REFUSED = "refused"
"""What this charger says the cloud store never takes (`tests.chaos.cloud`)."""
REFUSED_EVERY = 500

_LANES = {"charger": "bulk", "button": "bulk", "elevator": "bulk", "smoke": "safety"}


@dataclass(slots=True)
class Message:
    """One publication and what became of it at the broker."""

    number: int
    topic: str
    """Below the community's prefix."""
    payload: bytes
    lane: str
    repeatable: bool
    """The gateway knows it again: it has an id, or travels in the safety session, where its time does."""
    sent_ms: int | None = None
    """Unix ms of the first try."""
    acknowledged_ms: int | None = None
    """Unix ms of the first PUBACK."""
    garbage: bool = False
    copies: int = 1

    @property
    def babbling(self) -> bool:
        """Its device says more than it may."""
        return self.topic.startswith(f"charger/{BABBLER}")

    @property
    def kind(self) -> str:
        """Of its device."""
        return self.topic.split("/", 1)[0]


@dataclass(slots=True)
class Danger:
    """A cause, the alarms that it must raise and the orders that it may give."""

    kind: str
    device: str
    keys: tuple[str, ...]
    raising: list[int] = field(default_factory=list)
    """Numbers of the messages that raise it."""
    ending: list[int] = field(default_factory=list)
    """Numbers of those after which its condition is over."""
    stands_after_end: bool = True
    delay_s: float = 0.0
    """Of the rule."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A message of a danger: when, where, what."""

    after_s: float
    channel: str
    values: dict[str, object]
    ends: bool = False


class Traffic:
    """Gives what is due. ``rate`` telemetry messages and ``dangers_per_s`` dangers a second."""

    def __init__(self, seed: int, *, rate: float, dangers_per_s: float) -> None:
        self.messages: list[Message] = []
        """All there ever were; the place of each is its number."""
        self.dangers: list[Danger] = []
        self.rate = rate
        self.duplicating = False
        self.reordering = False
        self.corrupting = False
        self.flooding: str | None = None
        """The device that babbles, 1,000 messages a second."""
        self._chance = Random(seed)
        self._dangers_per_s = dangers_per_s
        self._waiting: list[tuple[float, int, Danger, _Part]] = []
        self._last_ts: dict[str, int] = {}
        self._owed = 0.0
        self._told_at: float | None = None
        self._order = 0

    def due(self, now: float, *, dangers: bool = True) -> list[Message]:
        """What is said since the last call; ``now`` is Unix seconds."""
        since = min(0.5, now - (self._told_at if self._told_at is not None else now))
        self._told_at = now
        self._owed += since * self.rate
        said = [self._telemetry(now) for _ in range(int(self._owed))]
        self._owed %= 1
        if self.flooding is not None:
            said += [self._babble(self.flooding, now) for _ in range(int(since * 1_000))]
        if self.corrupting:
            said += [self._garbage() for _ in range(int(since * 100))]
        if dangers and self._chance.random() < since * self._dangers_per_s:
            self._begin(now)
        while self._waiting and self._waiting[0][0] <= now:
            _, _, danger, part = heappop(self._waiting)
            said.append(self._part(danger, part, now))
        if self.duplicating:
            for message in said:
                message.copies = self._chance.choice((1, 2, 3)) if message.repeatable else 1
        return said

    @property
    def waiting(self) -> bool:
        """Whether a danger is not told to its end."""
        return bool(self._waiting)

    def _message(
        self, topic: str, values: dict[str, object], now: float, *, lane: str | None = None
    ) -> Message:
        number = len(self.messages)
        named = number % 3 != 0
        ts = max(int(now * 1000), self._last_ts.get(topic, 0) + 1)
        ts += ts % 1_000 == 0  # a whole second tells nothing
        self._last_ts[topic] = ts
        if self.reordering and topic.startswith("charger/p"):
            ts -= self._chance.randrange(0, 60_000)
        body = {**values, "n": number, "ts": ts} | ({"id": f"m{number}"} if named else {})
        kind, _, channel = topic.split("/", 2)
        lane = lane or ("safety" if channel != "telemetry" else _LANES[kind])
        message = Message(number, topic, json.dumps(body).encode(), lane, named or lane == "safety")
        self.messages.append(message)
        return message

    def _telemetry(self, now: float) -> Message:
        chance, number = self._chance, len(self.messages)
        match chance.randrange(20):
            case 0:
                return self._message(
                    f"smoke/s{chance.randrange(200)}/telemetry",
                    {"smoke": False, "battery": 80, "temperature": 21.5},
                    now,
                )
            case 1:
                return self._message(
                    f"button/b{chance.randrange(100)}/telemetry",
                    {"battery": 90, "activity": 3, "worn": True},
                    now,
                )
            case 2:
                return self._message(
                    f"elevator/l{chance.randrange(40)}/telemetry",
                    {"door": "closed", "floor": number % 30},
                    now,
                )
            case 3:
                return self._message(f"button/b{chance.randrange(100)}/event", {"action": "check_in"}, now)
            case _:
                usual = f"p{chance.randrange(CHARGERS)}"
                return self._message(
                    f"charger/{usual if number % REFUSED_EVERY else REFUSED}/telemetry",
                    {"energy": number, "power": 120.5, "temperature": 31.0, "status": "Charging"},
                    now,
                )

    def _babble(self, device: str, now: float) -> Message:
        return self._message(f"charger/{device}/telemetry", {"energy": len(self.messages)}, now)

    def _garbage(self) -> Message:
        chance = self._chance
        number = len(self.messages)
        payload = chance.choice(
            (
                chance.randbytes(40),
                b"",
                b"{",
                b"[" * 5_000,
                b"null",
                b'{"smoke": "perhaps"}',
                b'{"temperature": 1e999}',
                b'{"temperature": -400}',
                b'{"smoke": true, "smoke": 3}',
                b'{"ts": "yesterday", "battery": "full"}',
                b'{"energy": ' + b"9" * 400 + b"}",
                b"\xff\xfe" * 50,
                b'{"x": "' + b"a" * 20_000 + b'"',
            )
        )
        kind = chance.choice(("charger", "smoke", "button", "elevator"))
        channel = chance.choice(("telemetry", "event", "command/result", "status"))
        message = Message(
            number, f"{kind}/g{chance.randrange(9)}/{channel}", payload, "", repeatable=False, garbage=True
        )
        self.messages.append(message)
        return message

    # --- dangers --------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        number = len(self.dangers)
        danger, parts = self._story(f"d{number}")
        self.dangers.append(danger)
        for part in parts:
            self._order += 1
            heappush(self._waiting, (now + part.after_s, self._order, danger, part))

    def _story(self, device: str) -> tuple[Danger, Sequence[_Part]]:
        chance = self._chance
        later = chance.uniform(1, 6)
        match chance.randrange(6):
            case 0 | 1:
                danger = Danger("smoke", device, (f"smoke-alarm:{SITE}/smoke/{device}",))
                parts = [_Part(0, "telemetry", {"smoke": True, "density": 0.4})]
                if chance.random() < 0.5:
                    parts.append(_Part(later, "telemetry", {"smoke": False}, ends=True))
            case 2 | 3:
                danger = Danger("button", device, (f"button-emergency:{SITE}/button/{device}",))
                parts = [_Part(0, "event", {"action": "emergency"})]
            case 4:
                keys = ("charger-leakage",)
                danger = Danger(
                    "charger", device, tuple(f"{key}:{SITE}/charger/{device}" for key in keys), delay_s=3
                )
                parts = [_Part(0, "telemetry", {"leakage": 45.0})]
            case _:
                danger = Danger(
                    "elevator", device, (f"elevator-ebike:{SITE}/elevator/{device}/t1",), delay_s=1
                )
                danger.stands_after_end = False
                parts = [
                    _Part(0, "event", {"type": "new", "track": "t1", "label": "ebike", "score": 0.9}),
                    _Part(3 + later, "event", {"type": "end", "track": "t1"}, ends=True),
                ]
        return danger, parts

    def _part(self, danger: Danger, part: _Part, now: float) -> Message:
        message = self._message(f"{danger.kind}/{danger.device}/{part.channel}", part.values, now)
        (danger.ending if part.ends else danger.raising).append(message.number)
        return message


def numbers_of(messages: Sequence[Message]) -> Iterator[int]:
    """Of those that the broker has taken and that mean something."""
    return (each.number for each in messages if each.acknowledged_ms is not None and not each.garbage)
