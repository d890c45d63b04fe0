"""From what the gateway knows to lines of InfluxDB's line protocol (contract, section 4). Pure.

=================  ==================================  ==================================================
measurement        tags                                fields
=================  ==================================  ==================================================
the device's kind  site, device, building              telemetry points and event fields (see `fields`)
``alarm``          site, rule, severity, kind, device, id, state, state_code, occurrences, seconds_to_ack,
                   building, transition                seconds_to_clear
``gateway``        site, node                          the gateway's own figures
``gap``            site, node, lane                    count, from, to, reason, reason_code
=================  ==================================  ==================================================

Times are event times in Unix milliseconds. The same row gives the same line, so sending it again changes
nothing.

* Telemetry and events become points; status changes and command results do not.
* A retained message is old news. It becomes a point only where its own believed time says when it was so;
  without one it would be a new point with an old value.
* Two telemetry messages of one device in the same millisecond are one point; the later value of a field
  stays. Events, alarm transitions and gaps are occurrences: a later one moves to the next free millisecond
  (`moments`).
* No name, telephone number, room or household is ever written, nor who acknowledged an alarm, nor a
  comment; of a place only its building.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cloud_bridge.fields import Chosen, Part, fields_of, figures, free_text, head, lines, tags, text
from cloud_bridge.moments import Moments
from cloud_bridge.source import GapRow
from devices.kinds import KINDS
from devices.readings import Address, Channel, Flag, Reading, Scalar, parts_of
from rules.alarms import STATE_CODES, AlarmChange
from rules.decisions import Input

AT_A_TIME: Final = 128
"""Readings whose parts are put together at once: few enough to be in the processor's cache still."""

PlaceOf = Callable[[Address], Mapping[str, str]]
"""The registry's place of a device; empty for one that it does not know."""

Choice = Callable[[dict[str, Scalar]], Chosen]
"""From points to what of them may leave."""

_GATEWAY = "gateway"
_TELEMETRY = Channel.TELEMETRY
_EVENT = Channel.EVENT
_RETAINED = int(Flag.RETAINED)


@dataclass(frozen=True, slots=True)
class _Device:
    """What is the same in all lines of a device."""

    head: msgspec.Raw
    """Measurement and tags."""
    telemetry: Choice | None
    """None: a kind that we do not know (any more)."""
    event: Choice | None


class Lines:
    """Writes lines for one gateway. Remembers the heads of at most ``cache_limit`` devices."""

    def __init__(
        self,
        site: str,
        node: str,
        place_of: PlaceOf,
        *,
        forward_activity: bool = False,
        cache_limit: int = 30_000,
    ) -> None:
        self._site = site
        self._node = node
        self._place_of = place_of
        self._cache_limit = cache_limit
        self._devices: dict[Address, _Device] = {}
        self._moments = Moments()
        self._forms: dict[str, tuple[Choice, Choice | None]] = {
            kind.name: (
                fields_of(kind.telemetry, kind, forward_activity=forward_activity).choose,
                fields_of(kind.event, kind, forward_activity=forward_activity).choose if kind.event else None,
            )
            for kind in KINDS.values()
        }
        self._forms[_GATEWAY] = (figures, None)  # its own voice: whatever it measures of itself

    def readings(self, inputs: Sequence[Input]) -> list[bytes]:
        """A line for every reading that has something to forward, in order."""
        written: list[bytes] = []
        for start in range(0, len(inputs), AT_A_TIME):
            written += self._some(inputs[start : start + AT_A_TIME])
        return written

    def _some(self, inputs: Sequence[Input]) -> list[bytes]:
        devices = self._devices
        parts: list[Part] = []
        for reading in inputs:
            if type(reading) is not Reading:
                continue
            device = devices.get(reading.address) or self._device(reading.address)
            at = reading.source_time
            if reading.flags & _RETAINED and at == reading.received_at:
                continue
            if reading.channel is _TELEMETRY:
                choose = device.telemetry
            elif reading.channel is _EVENT and device.event is not None:
                choose = device.event
                at = self._moments.take(reading.address, at)
            else:
                continue
            if choose is not None and (chosen := choose(reading.values)):
                parts += device.head, chosen, at
        return lines(parts)

    def alarm(self, change: AlarmChange) -> bytes:
        """One transition; delays count from the last time that the alarm was raised."""
        alarm = change.alarm
        told = b"alarm" + tags(
            {
                "site": alarm.site,
                "rule": alarm.rule,
                "severity": alarm.severity,
                "kind": alarm.kind,
                "device": alarm.device,
                "building": alarm.place.get("building", ""),
                "transition": change.transition,
            }
        )
        fields = b"id=%b,state=%b,state_code=%d,occurrences=%d" % (
            text(alarm.id),
            text(alarm.state),
            STATE_CODES[alarm.state],
            alarm.occurrences,
        )
        for name, moment in (("seconds_to_ack", alarm.acked_at), ("seconds_to_clear", alarm.cleared_at)):
            if moment is not None and moment >= alarm.raised_at:
                fields += b",%b=%b" % (name.encode(), repr((moment - alarm.raised_at) / 1000).encode())
        return b"%b %b %d" % (told, fields, self._moments.take(told, change.at))

    def gap(self, gap: GapRow) -> bytes:
        """One known loss."""
        told = head("gap", {"site": self._site, "node": self._node, "lane": gap.lane})
        known: Chosen = {"count": gap.count, "from": gap.from_ms, "to": gap.to_ms}
        fields = {**known, **free_text("reason", gap.reason)}
        return lines([told, fields, self._moments.take(bytes(told), gap.at)])[0]

    def gateway(self, values: Mapping[str, float], at_ms: int) -> bytes:
        """The gateway's own figures where they are no reading of the journal; one at least is finite."""
        told = head(_GATEWAY, {"site": self._site, "node": self._node})
        return lines([told, figures(values), at_ms])[0]

    def _device(self, address: Address) -> _Device:
        site, kind, name = parts_of(address)
        telemetry, event = self._forms.get(kind, (None, None))
        if kind == _GATEWAY:
            told = head(kind, {"site": site, "node": name})
        else:
            building = self._place_of(address).get("building", "")
            told = head(kind, {"site": site, "device": name, "building": building})
        if len(self._devices) >= self._cache_limit:
            self._devices.clear()
        device = _Device(told, telemetry, event)
        self._devices[address] = device
        return device
