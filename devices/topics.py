"""Topics of the contract's section 1: reading one, and the filters the gateway subscribes to.

Routes are cached, because a community has thousands of topics and each of them comes back for years;
the cache is bounded, because a stranger may invent any number of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from zlib import crc32

from devices.kinds import KINDS
from devices.kinds.commands import CommandResult
from devices.kinds.traits import Kind
from devices.readings import Address, Channel, address_of
from devices.schemas import Schema, schema_of

LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
"""What one level of a topic (site, kind, device) may be."""

RESERVED = frozenset({"alarm", "gateway"})

_CHANNELS: Mapping[tuple[str, ...], Channel] = MappingProxyType(
    {
        ("telemetry",): Channel.TELEMETRY,
        ("event",): Channel.EVENT,
        ("status",): Channel.STATUS,
        ("command", "result"): Channel.RESULT,
    }
)


class Lane(StrEnum):
    """The two sessions: what saves people never waits behind what merely informs."""

    SAFETY = "safety"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message came from."""

    address: Address
    kind: Kind
    channel: Channel
    schema: Schema
    """What its messages must fit; of a status, nothing."""
    seed: int
    """CRC-32 of the topic, from which the fingerprint of a message goes on."""


@dataclass(frozen=True, slots=True)
class Unroutable:
    """A topic that matches our filters but names nothing that we know."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A topic that matches none of our filters; its messages are dropped."""


FOREIGN = Foreign()


class Topics:
    """Reads and writes the topics below ``{prefix}/{site}``."""

    def __init__(self, prefix: str, site: str, *, cache_limit: int = 65_536) -> None:
        self.prefix = prefix
        self.site = site
        self._base = f"{prefix}/{site}/"
        self._cache: dict[str, Route] = {}
        self._cache_limit = cache_limit

    def filters(self, lane: Lane) -> list[str]:
        """The topic filters of one session; the two lists never overlap and are never ``#``."""
        base = self._base
        if lane is Lane.SAFETY:
            safety = [
                f"{base}{name}/+/telemetry" for name, kind in KINDS.items() if kind.on_wire and kind.safety
            ]
            return [f"{base}+/+/event", f"{base}+/+/status", f"{base}+/+/command/result", *safety]
        return [
            f"{base}{name}/+/telemetry" for name, kind in KINDS.items() if kind.on_wire and not kind.safety
        ]

    def route(self, topic: str) -> Route | Unroutable | Foreign:
        """Read a topic; a good answer is remembered, a bad one is not (its topic may be 64 KiB long)."""
        found = self._cache.get(topic)
        if found is not None:
            return found
        read = self._read(topic)
        if isinstance(read, Route):
            if len(self._cache) >= self._cache_limit:
                self._cache.clear()
            self._cache[topic] = read
        return read

    def _read(self, topic: str) -> Route | Unroutable | Foreign:
        if not topic.startswith(self._base):
            return FOREIGN
        levels = topic[len(self._base) :].split("/")
        channel = _CHANNELS.get(tuple(levels[2:]))
        if channel is None or levels[0] in RESERVED:
            return FOREIGN
        name, device = levels[0], levels[1]
        if not LEVEL.match(name) or not LEVEL.match(device):
            return Unroutable("bad_topic", "a level is not [A-Za-z0-9_.-]{1,64}")
        kind = KINDS.get(name)
        if kind is None or not kind.on_wire:
            return Unroutable("unknown_kind", name)
        if channel is Channel.EVENT and kind.event is None:
            return Unroutable("no_events", name)
        return Route(
            address_of(self.site, name, device), kind, channel, _schema(kind, channel), crc32(topic.encode())
        )

    def command(self, kind: str, device: str) -> str:
        """The topic on which a device takes its orders."""
        return f"{self._base}{kind}/{device}/command"

    def alarm(self, alarm_id: str) -> str:
        """The retained topic of one alarm."""
        return f"{self._base}alarm/{alarm_id}"

    def gateway(self, node: str, what: str) -> str:
        """The gateway's own ``status`` or ``health`` topic."""
        return f"{self._base}gateway/{node}/{what}"


def _schema(kind: Kind, channel: Channel) -> Schema:
    if channel is Channel.RESULT:
        return schema_of(CommandResult)
    return schema_of(kind.event if channel is Channel.EVENT and kind.event is not None else kind.telemetry)
