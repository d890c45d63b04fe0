"""What the control socket can ask of the node: here health, alarms and orders; devices, rules and the bridge beside.

Answers are small slices, so that no question keeps a reading waiting.
"""

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import TypeVar

import msgspec

from devices.readings import parts_of
from devices.registry import Registry
from edge.condition import Condition
from edge.control import Refused, Request
from edge.desks.bridge_desk import BridgeDesk
from edge.desks.device_desk import DeviceDesk
from edge.desks.rule_desk import RuleDesk
from edge.metrics import exposition
from edge.node import Node
from edge.people import UndecidedError
from edge.refusals import Refusals
from edge.store.errors import StoreError
from rules.alarms import Alarm
from rules.decisions import Instruction, Withheld
from rules.instructions import InstructionError, command_of

BY_MOST = 64
COMMENT_MOST = 500
STANDING_MOST = 2_000
"""Alarms that status tells of: in a storm the answer must stay one that can be read, and be quickly written."""


class _Order(msgspec.Struct, frozen=True):
    alarm_id: str
    by: str
    comment: str = ""


class _Instruct(msgspec.Struct, frozen=True):
    address: str
    command: str
    by: str
    args: dict[str, str] = {}
    comment: str = ""


_Said = TypeVar("_Said", _Order, _Instruct)
"""What a person said under a name."""


class Desk:
    """Answers requests about ``node``."""

    def __init__(
        self,
        node: Node,
        registry: Registry,
        condition: Condition,
        *,
        refusals: Refusals,
        rules: RuleDesk | None = None,
    ) -> None:
        self.condition = condition
        self._node = node
        self._rules = rules
        self._devices = DeviceDesk(node, registry)
        bridge = BridgeDesk(node, condition, refusals)
        self._operations: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "health": self._health,
            "metrics": self._metrics,
            "devices": self._devices.page,
            "device": self._devices.one,
            "ack": self._acknowledge,
            "close": self._close,
            "order": self._instruct,
            "status": self._status,
            "position": bridge.position,
            "advance": bridge.advance,
            "dead_letter": bridge.dead_letter,
            "report": bridge.report,
            "damaged": bridge.damaged,
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

    async def _health(self, _line: bytes) -> object:
        return self.condition.health()

    async def _metrics(self, _line: bytes) -> object:
        node = self._node
        counts = {
            **node.intake.counts,
            **{f"failed.{part}": count for part, count in self.condition.failures().items()},
            **{f"disconnected.{lane}": count for lane, count in node.ingest.disconnects.items()},
            "raises_withheld": node.intake.state.raises_withheld,
        }
        return {"text": exposition(self.condition.health(), counts, node.replayed)}

    async def _status(self, _line: bytes) -> object:
        standing = sorted(self._node.board.values(), key=attrgetter("urgency"))
        told = [alarm for alarm in standing if alarm.annunciated][:STANDING_MOST]
        quiet = [alarm for alarm in standing if not alarm.annunciated][: STANDING_MOST - len(told)]
        return {
            "health": self.condition.health(),
            "standing": [
                msgspec.Raw(alarm.wire()) for alarm in sorted(told + quiet, key=attrgetter("urgency"))
            ],
            "beyond": len(standing) - len(told) - len(quiet),
            "silent": self._devices.silent(),
            "unheard": self._devices.unheard(),
            "rules": None if self._rules is None else self._rules.report(),
        }

    async def _acknowledge(self, line: bytes) -> object:
        order = _signed(msgspec.json.decode(line, type=_Order))
        return _told(
            order.alarm_id, await self._node.people.acknowledge(order.alarm_id, order.by, order.comment)
        )

    async def _close(self, line: bytes) -> object:
        order = _signed(msgspec.json.decode(line, type=_Order))
        alarm = await self._node.people.close(order.alarm_id, order.by, order.comment)
        if alarm is not None and not alarm.closed and alarm.on_board:
            raise Refused(
                "not_allowed",
                f"alarm {order.alarm_id} is still active: its condition must end first (acknowledge it meanwhile)",
            )
        return _told(order.alarm_id, alarm)

    async def _instruct(self, line: bytes) -> object:
        told = _signed(msgspec.json.decode(line, type=_Instruct))
        address = self._devices.known(told.address)
        try:
            args = command_of(parts_of(address)[1], told.command, told.args)
        except InstructionError as error:
            raise Refused("bad_request", str(error)) from error
        now = self._node.clock.now_ms()
        given = Instruction(address, told.command, args, told.by, told.comment, now)
        answer = await self._node.people.instruct(given)
        if isinstance(answer, Withheld):
            raise Refused("not_allowed", f"{told.command} would be unsafe now: {answer.reason}")
        return msgspec.structs.asdict(answer) | {"presence": self._devices.presence(address)}


def _signed(said: _Said) -> _Said:
    """What a person said, with a name that can be kept. Raises `Refused`."""
    if not said.by.strip() or len(said.by) > BY_MOST:
        raise Refused("bad_request", f"by must be a name of 1 to {BY_MOST} characters")
    if len(said.comment) > COMMENT_MOST:
        raise Refused("bad_request", f"comment must have at most {COMMENT_MOST} characters")
    return said


def _told(alarm_id: str, alarm: Alarm | None) -> object:
    if alarm is None:
        raise Refused("not_found", f"no alarm {alarm_id} stands: `anlin alarms list` shows what does")
    return msgspec.Raw(alarm.wire())
