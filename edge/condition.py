"""The state of the gateway as a whole, read off its parts: what is wrong now, its figures, and one word for both.

Asked every second and by whoever wants to know, so each answer costs a look at a few numbers. Who looks of its own
accord is `edge.vitals`.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from devices.kinds import KINDS
from devices.readings import Flag
from edge.children import Child
from edge.health import ALARMING, Code, Health, Lately, Reason, reason, status_of
from edge.historian import Historian
from edge.node import Node

UNREGISTERED = Flag.UNREGISTERED

COUNT_MS = 1_000
REFUSED_MS = 600_000
"""Messages that were not evaluated are a reason for so long after the last of them."""


class CloudReport(msgspec.Struct, frozen=True):
    """What the bridge last said of itself."""

    state: str
    behind: dict[str, int]
    error: str | None = None
    retry_in_s: float | None = None
    stored: int = 0
    dead_letters: int = 0
    failures: int = 0


class Condition:
    """Of ``node``, the processes beside it, its history and its way to the cloud."""

    def __init__(
        self,
        node: Node,
        children: Sequence[Child],
        *,
        history: Historian | None = None,
        version: str,
        embedded_broker: bool,
    ) -> None:
        self.cloud: CloudReport | None = None
        """What the bridge said last."""
        self._node = node
        self._children = {child.name: child for child in children}
        self._history = history
        self._version = version
        self._embedded = embedded_broker
        self._counted: dict[str, int] = {}
        self._counted_at = -COUNT_MS
        self._unregistered = Lately(node.intake.state.refused, REFUSED_MS)
        self._tracks = Lately(node.intake.state.tracks_refused, REFUSED_MS)

    def health(self) -> Health:
        """The state of the gateway."""
        reasons = self.reasons()
        return Health(
            status=status_of(reasons),
            reasons=reasons,
            embedded_broker=self._embedded,
            version=self._version,
            site=self._node.who.site,
            node=self._node.who.node,
            uptime_s=self.uptime_s,
            cloud=msgspec.to_builtins(self.cloud) if self.cloud is not None else None,
            history=self._history.told() if self._history is not None else None,
            counts=self._counts(),
        )

    def summary(self) -> str:
        """One line for the service manager."""
        reasons = self.reasons()
        wrong = f" ({', '.join(each.code for each in reasons)})" if reasons else ""
        return f"{status_of(reasons)}{wrong}, {len(self._node.board)} alarms stand"

    def figures(self, reasons: Sequence[Reason]) -> dict[str, bool | int | float | str]:
        """What goes into the journal as the gateway's own telemetry (`devices.kinds.gateway`)."""
        counts = self._counts()
        behind = sum(self.cloud.behind.values()) if self.cloud is not None else 0
        wrong = {each.code for each in reasons}
        return {
            "uptime": int(self.uptime_s),
            "received": counts.get("received", 0),
            "rejected": counts.get("rejected", 0),
            "duplicates": counts.get("duplicates", 0),
            "devices": counts["devices"],
            "alarms": counts["standing"],
            "cloud_behind": behind,
            "unregistered_refused": self._node.intake.state.refused,
            **{code.value: code in wrong for code in ALARMING},
        }

    @property
    def uptime_s(self) -> float:
        """Since the node began."""
        return self._node.clock.running_ms() / 1000

    def reasons(self) -> list[Reason]:
        """Everything that is wrong now. Cheap: it is asked every second."""
        node = self._node
        state, now = node.intake.state, node.clock.now_ms()
        found = []
        missing = [lane.value for lane in node.links if lane not in node.lanes_up]
        if missing:
            found.append(reason(Code.BROKER_AWAY, f"no connection to the broker ({', '.join(missing)})"))
        if node.store_error is not None:
            found.append(reason(Code.STORE_FAILING, node.store_error))
        for name, code in (("web", Code.WEB_DOWN), ("bridge", Code.BRIDGE_DOWN)):
            child = self._children.get(name)
            if child is not None and not child.well:
                how = "has just been started again" if child.up else "is not running"
                found.append(reason(code, f"the {name} process {how}"))
        if self.cloud is not None and self.cloud.error is not None:
            code = Code.CLOUD_REFUSES if self.cloud.state == "fix_needed" else Code.CLOUD_AWAY
            found.append(reason(code, self.cloud.error))
        if self._unregistered.grew(state.refused, now):
            found.append(reason(Code.UNREGISTERED_LIMIT, f"{state.refused} messages were not evaluated"))
        if self._tracks.grew(state.tracks_refused, now):
            count = state.tracks_refused
            found.append(reason(Code.TRACKS_REFUSED, f"{count} messages of cameras with too many tracks"))
        found += node.troubles.reasons()
        if self._embedded:
            found.append(
                reason(
                    Code.EMBEDDED_BROKER,
                    "the embedded broker keeps no session and delivers nothing again: a restart loses"
                    " what is on its way",
                )
            )
        return found

    def failures(self) -> Counter[str]:
        """What failed in a part that went on after it, by part; each is in the log."""
        node = self._node
        return node.troubles.failures + Counter(
            commit=node.journal.failures,
            housekeeping=node.journal.housekeeping_failures,
            control=0 if node.control is None else node.control.failures,
            bridge=0 if self.cloud is None else self.cloud.failures,
        )

    def _counts(self) -> dict[str, int]:
        """Of all devices, at most once a second: whoever asks often must not keep readings waiting."""
        now = self._node.clock.running_ms()
        if now - self._counted_at >= COUNT_MS:
            self._counted_at, self._counted = now, self._count()
        return {
            **self._counted,
            "standing": len(self._node.board),
            "outbox": len(self._node.outbox),
            **{name: value for name, value in self._node.intake.counts.items() if "." not in name},
        }

    def _count(self) -> dict[str, int]:
        known = self._node.intake.state.devices.values()
        devices = [device for device in known if KINDS[device.kind].on_wire]
        online = offline = unregistered = unheard = 0
        for device in devices:
            online += device.online is True
            offline += device.online is False
            unregistered += bool(device.flags & UNREGISTERED)
            unheard += not device.last_seen
        return {
            "devices": len(devices),
            "online": online,
            "offline": offline,
            "unheard": unheard,
            "unregistered": unregistered,
        }
