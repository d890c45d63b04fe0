"""A small community with places, an engine, and what it has said: for rules that look beyond one device."""

from collections.abc import Sequence
from functools import cache

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar, address_of
from devices.registry import Registry, parse_registry
from rules.alarms import Alarm
from rules.decisions import Decision, Input, Order, Withheld
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse
from rules.places import Neighbourhood
from rules.state import freeze, thaw

T0 = 1_790_000_000_000

REGISTRY = """
places:
  - {building: "3", unit: "1", floors: 1-33}
  - {building: "3", unit: "2", floors: 1-33}
  - {building: shed-1}
devices:
  - {id: a, kind: smoke, building: "3", unit: "2", floor: "11", room: A}
  - {id: b, kind: smoke, building: "3", unit: "2", floor: "11", room: A}
  - {id: c, kind: smoke, building: "3", unit: "2", floor: "11", room: B}
  - {id: d, kind: smoke, building: "3", unit: "1", floor: "11", room: A}
  - {id: e, kind: smoke, building: "3", unit: "2", floor: "12"}
  - {id: shed, kind: smoke, building: shed-1, group: shed-1}
  - {id: bell, kind: button, building: "3", unit: "2", floor: "11", room: A}
  - {id: horn, kind: siren, building: "3"}
  - {id: horn2, kind: siren, building: "3", unit: "1"}
  - {id: lift, kind: elevator, building: "3", unit: "2"}
"""

SILENT = """
rules:
  - id: silent
    kind: charger
    silent_for: 10m
    severity: medium
    text: {en: "{device} is silent", zh: "{device} 无数据"}
    fold:
      same: [group, building, site]
      least: 3
      within: 2m
      text: {en: "{count} of {heard} silent", zh: "{heard}个中{count}个无数据"}
"""
"""A rule that folds what is silent together."""


def with_ports(count: int, group: str = "shed-1") -> str:
    """More lines for the registry: charging ports of a shed."""
    return "".join(
        f"  - {{id: {group}-p{number:03}, kind: charger, building: shed-1, group: {group}}}\n"
        for number in range(1, count + 1)
    )


@cache
def registry(text: str = REGISTRY) -> Registry:
    return parse_registry(parse_yaml(text, "devices.yaml"), "devices.yaml", "c1")


@cache
def rule_set(text: str) -> RuleSet:
    return parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])


def engine(rules: str, places: str = REGISTRY) -> Engine:
    known = registry(places)
    return Engine(
        rule_set(rules),
        site="c1",
        node="gw-1",
        place_of=lambda address: known.devices[address].place if address in known.devices else {},
        around=Neighbourhood(known.devices.values()),
    )


def at(kind: str, name: str) -> Address:
    return address_of("c1", kind, name)


class Community:
    """An engine and its state; ``restart`` goes through a snapshot."""

    def __init__(self, rules: str, places: str = REGISTRY) -> None:
        self.engine = engine(rules, places)
        self._make = (rules, places)
        self.state = self.engine.new_state()
        self.said: list[tuple[str, str, str, float]] = []
        self.decisions: list[Decision] = []
        self.now = 0.0

    def at(self, second: float, given: Input | None = None) -> Decision:
        self.now = second
        now = T0 + round(second * 1000)
        before = self.engine.tick(self.state, now)
        after = self.engine.step(self.state, given, now) if given is not None else Decision()
        whole = Decision(
            before.changes + after.changes, before.orders + after.orders, before.withheld + after.withheld
        )
        self.decisions.append(whole)
        for change in whole.changes:
            alarm = change.alarm
            name = alarm.track if alarm.members is not None and alarm.track else alarm.device
            self.said.append((change.transition.value, alarm.rule, name, (change.at - T0) / 1000))
        return whole

    def hear(self, second: float, kind: str, name: str, **values: Scalar) -> Decision:
        now = T0 + round(second * 1000)
        return self.at(second, Reading(Channel.TELEMETRY, at(kind, name), values, now, now))

    def event(self, second: float, kind: str, name: str, **values: Scalar) -> Decision:
        now = T0 + round(second * 1000)
        return self.at(second, Reading(Channel.EVENT, at(kind, name), values, now, now))

    def restart(self) -> None:
        header, devices = freeze(self.state)
        kept = getattr(self, "_snapshot", {})
        kept.update(devices)
        self._snapshot = kept
        self.engine = engine(*self._make)
        self.state = thaw(header, list(kept.items()))
        self.engine.derive_deadlines(self.state)

    def said_of(self, rule: str) -> list[tuple[str, str, float]]:
        return [(what, who, when) for what, which, who, when in self.said if which == rule]

    def alarm(self, rule: str, name: str | None = None) -> Alarm:
        [found] = [
            alarm
            for alarm in self.state.alarms.values()
            if alarm.rule == rule and name in (None, alarm.device, alarm.track)
        ]
        return found

    @property
    def orders(self) -> Sequence[Order]:
        return [order for decision in self.decisions for order in decision.orders]

    @property
    def withheld(self) -> Sequence[Withheld]:
        return [each for decision in self.decisions for each in decision.withheld]
