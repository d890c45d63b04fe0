"""Rules, the devices that they speak of, and histories, for tests of the engine, of replay and of apply."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from edge.store.records import Batch
from edge.store.retention import Bounds
from edge.store.schema import FILE
from edge.store.writer import Writer
from rules.decisions import Decision, Input, time_of
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse

T0 = 1_790_000_000_000
MINUTE = 60_000
PORT = Address("c1/charger/p1")
LIFT = Address("c1/elevator/l1")
SMOKE = Address("c1/smoke/s1")
BUTTON = Address("c1/button/b1")

WARM = """rules:
  - id: warm
    kind: charger
    when: temperature >= {limit}
    for: {delay}
    severity: low
    text: {{en: warm, zh: 热}}
    examples:
      - name: warm raises
        readings: [{{at: 0s, temperature: 99}}]
        expect: [{{at: {delay}, change: raised}}]
"""

STORY = """rules:
  - {id: hot, kind: charger, when: temperature >= 65, clear: temperature < 55, for: 10s, severity: high,
     text: {en: hot, zh: 热}, actions: [{command: cut_power}]}
  - {id: warm, kind: charger, when: temperature >= 60, severity: medium, text: {en: warm, zh: 温}}
  - {id: quiet, kind: charger, silent_for: 5m, severity: low, text: {en: silent, zh: 失联}}
  - {id: press, kind: button, when: action == 'emergency', severity: critical, text: {en: help, zh: 求助}}
  - {id: ebike, kind: elevator, per: track, when: label == 'ebike' and type != 'end', clear: type == 'end', for: 1s,
     severity: medium, text: {en: "{track}", zh: "{track}"}, actions: [{command: hold_door, args: {seconds: 60}}]}
  - {id: fire, kind: smoke, when: smoke and not test, clear: smoke == false, severity: critical,
     text: {en: fire, zh: 火}}
"""


@cache
def rules(text: str) -> RuleSet:
    return parse([("rules.yaml", parse_yaml(text, "rules.yaml"))])


def ms(second: float) -> int:
    """The moment so long after the beginning."""
    return T0 + int(second * 1000)


def warm(limit: int = 60, delay: str = "0s") -> str:
    return WARM.format(limit=limit, delay=delay)


def reading(at: int, address: str, **values: Scalar) -> Reading:
    event = "action" in values or "type" in values
    return Reading(Channel.EVENT if event else Channel.TELEMETRY, Address(address), values, at, at)


def lived(folder: Path, text: str, inputs: Sequence[Input], until: int, *, size: int = 7) -> list[Decision]:
    """Run ``inputs`` as a gateway would, ``size`` to a batch, into a journal in ``folder``; what was decided."""
    engine = Engine(rules(text), site="c1", node="gw-1")
    state = engine.new_state()
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder / FILE, Bounds(10**9), forwarding=False)
    writer.open()
    writer.connection.execute("PRAGMA synchronous = OFF")  # no power is cut here
    decisions = []
    batch = Batch(1)
    for given in inputs:
        decisions.append(engine.step(state, given, time_of(given)))
        batch.inputs.append(given)
        if len(batch.inputs) == size:
            batch.now = state.now
            writer.commit(batch)
            batch = Batch(batch.seq + 1)
    decisions.append(engine.tick(state, until))
    batch.inputs.append(reading(until, "c1/gateway/gw-1", uptime=1))
    batch.now = until
    writer.commit(batch)
    writer.close()
    return decisions
