"""What the control socket can ask of the node: health, devices, alarms, orders, the bridge's ledger.

Answers are small slices, so that no question keeps a reading waiting.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec

from devices.kinds import KINDS
from devices.readings import Address, Flag, parts_of
from devices.registry import Registry
from edge.children import Child
from edge.control import Refused, Request
from edge.health import ALARMING, Code, Health, Lately, Reason, reason, status_of
from edge.historian import Historian
from edge.metrics import exposition
from edge.node import Node
from edge.people import UndecidedError
from edge.refusals import Refusals
from edge.rule_desk import RuleDesk
from edge.store.errors import StoreError
from edge.store.records import DeadLetter
from rules.alarms import Alarm
from rules.decisions import Instruction, Withheld
from rules.instructions import InstructionError, command_of
from rules.state import Device

UNREGISTERED = Flag.UNREGISTERED

LIMIT_MOST = 500
COUNT_MS = 1_000
REFUSED_MS = 600_000
"""Messages that were not evaluated are a reason for so long after the last of them."""


class DeviceView(msgspec.Struct, frozen=True):
    """A device as the API shows it."""

    address: str
    kind: str
    device: str
    state: str
    """`normal`, `alarm` or `unknown`."""
    online: bool | None
    last_seen: int | None
    registered: bool
    place: dict[str, str]
    points: dict[str, bool | int | float | str]
    flags: int


class _Page(msgspec.Struct, frozen=True):
    kind: str | None = None
    after: str | None = None
    limit: int = 100


class _One(msgspec.Struct, frozen=True):
    address: str


class _Order(msgspec.Struct, frozen=True):
    alarm_id: str
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"\S")]
    comment: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Instruct(msgspec.Struct, frozen=True):
    address: str
    command: str
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"\S")]
    args: dict[str, str] = {}
    comment: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Feed(msgspec.Struct, frozen=True):
    feed: str


class _Advance(msgspec.Struct, frozen=True):
    feed: str
    position: int


class _DeadLetter(msgspec.Struct, frozen=True):
    feed: str
    line: str
    status: int
    words: str


class CloudReport(msgspec.Struct, frozen=True):
    """What the bridge last said of itself."""

    state: str
    behind: dict[str, int]
    error: str | None = None
    retry_in_s: float | None = None
    stored: int = 0
    dead_letters: int = 0


class _Damaged(msgspec.Struct, frozen=True):
    reason: str


class _Report(msgspec.Struct, frozen=True):
    status: CloudReport


class Desk:
    """Answers requests about ``node``."""

    def __init__(
        self,
        node: Node,
        registry: Registry,
        children: Sequence[Child],
        *,
        refusals: Refusals,
        history: Historian | None = None,
        version: str,
        embedded_broker: bool,
        rules: RuleDesk | None = None,
    ) -> None:
        self._node = node
        self._registry = registry
        self._children = {child.name: child for child in children}
        self._refusals = refusals
        self._history = history
        self._version = version
        self._embedded = embedded_broker
        self._rules = rules
        self._addresses: list[Address] = []
        self._counted: dict[str, int] = {}
        self._counted_at = -COUNT_MS
        self._unregistered = Lately(node.intake.state.refused, REFUSED_MS)
        self._tracks = Lately(node.intake.state.tracks_refused, REFUSED_MS)
        self.cloud: CloudReport | None = None
        self._operations: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "health": self._health,
            "metrics": self._metrics,
            "devices": self._devices,
            "device": self._device,
            "ack": self._acknowledge,
            "close": self._close,
            "order": self._instruct,
            "status": self._status,
            "position": self._position,
            "advance": self._advance,
            "dead_letter": self._dead_letter,
            "report": self._report,
            "damaged": self._damaged,
        }
        if rules is not None:
            self._operations["apply_rules"] = rules.apply

    async def answer(self, request: Request, line: bytes) -> object:
        """Do what a request asks; raises `Refused`."""
        operation = self._operations.get(request.op)
        if operation is None:
            raise Refused("unknown_op", f"no operation {request.op!r}")
        try:
            return await operation(line)
        except StoreError as error:
            raise Refused("unavailable", f"the store cannot be written: {error}") from error
        except UndecidedError as error:
            raise Refused("internal", f"{error}: nothing was done; see the gateway's log") from error

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
                    "the embedded broker keeps nothing: a restart loses what is on its way",
                )
            )
        return found

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

    async def _health(self, _line: bytes) -> object:
        return self.health()

    async def _metrics(self, _line: bytes) -> object:
        node = self._node
        counts = {**node.intake.counts, "raises_withheld": node.intake.state.raises_withheld}
        return {"text": exposition(self.health(), counts, node.replayed)}

    async def _status(self, _line: bytes) -> object:
        heard = self._node.intake.state.devices
        silent = [address for address, device in heard.items() if device.silent]
        unheard = [
            address
            for address in self._registry.addresses
            if address not in heard or not heard[address].last_seen
        ]
        standing = sorted(self._node.board.values(), key=lambda alarm: (alarm.severity.rank, alarm.raised_at))
        return {
            "health": self.health(),
            "standing": [msgspec.Raw(alarm.wire()) for alarm in standing],
            "silent": sorted(silent)[:LIMIT_MOST],
            "unheard": sorted(unheard)[:LIMIT_MOST],
            "rules": None if self._rules is None else self._rules.report(),
        }

    async def _devices(self, line: bytes) -> object:
        page = msgspec.json.decode(line, type=_Page)
        if not 1 <= page.limit <= LIMIT_MOST:
            raise Refused("bad_request", f"limit must be 1 to {LIMIT_MOST}")
        addresses = self._sorted_addresses()
        start = bisect_right(addresses, page.after) if page.after is not None else 0
        items: list[DeviceView] = []
        for address in addresses[start:]:
            if page.kind is not None and parts_of(address)[1] != page.kind:
                continue
            if len(items) == page.limit:
                return {"items": items, "next": items[-1].address}
            items.append(self._view(address))
        return {"items": items, "next": None}

    async def _device(self, line: bytes) -> object:
        return self._view(self._known(msgspec.json.decode(line, type=_One).address))

    def _known(self, told: str) -> Address:
        address = Address(told)
        if address not in self._node.intake.state.devices and self._registry.device(address) is None:
            raise Refused("not_found", f"no device {address}")
        return address

    def _sorted_addresses(self) -> list[Address]:
        """Registered and heard devices; sorted anew only when there are more of them."""
        heard = self._node.intake.state.devices
        everything = heard.keys() | self._registry.devices.keys()
        if len(everything) != len(self._addresses):
            self._addresses = sorted(everything)
        return self._addresses

    def _view(self, address: Address) -> DeviceView:
        _, kind, name = parts_of(address)
        entry = self._registry.device(address)
        intake = self._node.intake
        device = intake.state.devices.get(address) or Device(address, kind, {})
        return DeviceView(
            address=address,
            kind=kind,
            device=name,
            state=_state(device),
            online=device.online,
            last_seen=device.last_seen or None,
            registered=entry is not None,
            place=dict(entry.place) if entry is not None else {},
            points=intake.engine.points_of(device),
            flags=device.flags,
        )

    async def _acknowledge(self, line: bytes) -> object:
        order = msgspec.json.decode(line, type=_Order)
        return _told(
            order.alarm_id, await self._node.people.acknowledge(order.alarm_id, order.by, order.comment)
        )

    async def _close(self, line: bytes) -> object:
        order = msgspec.json.decode(line, type=_Order)
        alarm = await self._node.people.close(order.alarm_id, order.by, order.comment)
        if alarm is not None and not alarm.closed and alarm.on_board:
            raise Refused(
                "not_allowed",
                f"alarm {order.alarm_id} is still active: its condition must end first (acknowledge it meanwhile)",
            )
        return _told(order.alarm_id, alarm)

    async def _instruct(self, line: bytes) -> object:
        told = msgspec.json.decode(line, type=_Instruct)
        address = self._known(told.address)
        try:
            args = command_of(parts_of(address)[1], told.command, told.args)
        except InstructionError as error:
            raise Refused("bad_request", str(error)) from error
        now = self._node.clock.now_ms()
        given = Instruction(address, told.command, args, told.by, told.comment, now)
        answer = await self._node.people.instruct(given)
        if isinstance(answer, Withheld):
            raise Refused("not_allowed", f"{told.command} would be unsafe now: {answer.reason}")
        return answer

    # The bridge

    async def _position(self, line: bytes) -> object:
        feed = msgspec.json.decode(line, type=_Feed).feed
        return self._node.positions.get(feed, 0)

    async def _advance(self, line: bytes) -> object:
        given = msgspec.json.decode(line, type=_Advance)
        self._node.advance(given.feed, given.position)
        return None

    async def _dead_letter(self, line: bytes) -> object:
        given = msgspec.json.decode(line, type=_DeadLetter)
        letter = DeadLetter(self._node.clock.now_ms(), given.feed, given.line, given.status, given.words)
        self._node.intake.batch.dead_letters.append(letter)
        self._refusals.add(letter)
        return None

    async def _damaged(self, line: bytes) -> object:
        await self._node.rebuilding.mend(msgspec.json.decode(line, type=_Damaged).reason)
        return None

    async def _report(self, line: bytes) -> object:
        self.cloud = msgspec.json.decode(line, type=_Report).status
        return None


def _told(alarm_id: str, alarm: Alarm | None) -> object:
    if alarm is None:
        raise Refused("not_found", f"no alarm {alarm_id} stands: `anlin alarms list` shows what does")
    return msgspec.Raw(alarm.wire())


def _state(device: Device) -> str:
    """Silence neither ends an alarm nor means normal."""
    conditions = device.ongoing.values()
    if any(ongoing.due is None and ongoing.rule not in device.silences for ongoing in conditions):
        return "alarm"
    if not device.last_seen or device.silent or device.online is False:
        return "unknown"
    return "normal"
