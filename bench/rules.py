"""What rules cost: a message among few and many devices, rules of other kinds, a tick over silence, windows in memory.

In one process, by its processor time: nothing but the engine. Readings are made beforehand.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time
from zlib import compress

from bench.figures import Figure, Tell, at_most
from bench.gateway import ROOT
from bench.profiles import sampled
from bench.world import Scale
from devices.documents import parse_yaml
from devices.readings import Channel, Reading, Scalar, address_of
from edge.checking import load_rules
from edge.node_process import GC_YOUNG
from edge.settings import Config
from rules.decisions import Listening
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse
from rules.state import State, freeze

NAME = "rules"
FEW, MANY, COMMUNITY = 1_000, 50_000, 8_000
EVERY_MS = 10_000
"""How often a device speaks."""
BEGIN = 1_790_000_000_000
MESSAGES = 50_000
"""Timed at once."""

WINDOWS = """
rules:
  - id: all-windows
    kind: charger
    let:
      mean: mean(temperature, '10m')
      low: min(temperature, '10m')
      high: max(temperature, '10m')
      climb: rise(temperature, '10m')
      gain: delta(energy, '10m')
      busy: count(power > 100, '10m')
      lasted: duration(power > 100)
      before: previous(power)
      moved: changed(power, '10m')
    when: mean > 190 and low > 0 and high > 0 and climb > 9 and gain > 0 and busy > 0 and moved or lasted > '30d'
    severity: low
    text: {en: "{mean}", zh: "{mean}"}
"""
OTHERS = """
  - id: other-{number}
    kind: elevator
    when: max(floor, '10m') > {number} and blocking
    severity: low
    text: {{en: other, zh: 别}}
"""


def run(_folder: Path, _scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Every figure in turn."""
    with sampled(profile):
        _run(tell)


def _run(tell: Tell) -> None:
    gc.set_threshold(GC_YOUNG, 20, 100)  # as the node has it
    packs = load_rules(Config())
    others = "".join(OTHERS.format(number=number) for number in range(150))
    for name, rules, target in (
        ("shipped packs", packs, at_most(20)),
        ("all windows", _parsed(WINDOWS), at_most(20)),
    ):
        few, many = _cost_us(rules, FEW), _cost_us(rules, MANY)
        tell(Figure(NAME, f"{name}: a message among {FEW:,} devices", few, "µs"))
        tell(Figure(NAME, f"{name}: a message among {MANY:,} devices", many, "µs"))
        tell(Figure(NAME, f"{name}: dearer among many", 100 * (many / few - 1), "%", target))
    alone, beside = _cost_us(_parsed(WINDOWS), FEW), _cost_us(_parsed(WINDOWS + others), FEW)
    tell(
        Figure(
            NAME,
            "150 rules of another kind make a message dearer by",
            100 * (beside / alone - 1),
            "%",
            at_most(10),
        )
    )
    worst, usual = _ticks_ms(packs)
    tell(Figure(NAME, f"a tick over {MANY:,} silence checks, median", usual, "ms", at_most(5)))
    tell(Figure(NAME, f"a tick over {MANY:,} silence checks, worst", worst, "ms", at_most(5)))
    bare, full, snapshot = _memory()
    tell(
        Figure(
            NAME,
            f"{COMMUNITY:,} devices, all windows full, beside those without rules",
            full - bare,
            "MB",
            at_most(80),
        )
    )
    tell(Figure(NAME, "their snapshot, compressed", snapshot, "MB"))


def _parsed(text: str) -> RuleSet:
    return parse([("bench.yaml", parse_yaml(text, "bench.yaml"))])


def _round(devices: int, number: int) -> list[Reading]:
    """Every device once; a little different each time, and alarming never."""
    readings = []
    for device in range(devices):
        now = BEGIN + number * EVERY_MS + device * EVERY_MS // devices
        wave = (device * 7 + number * 3) % 20
        values: dict[str, Scalar] = {
            "voltage": 228.0 + wave / 10,
            "current": 2.0 + wave / 20,
            "power": 90.0 + wave * 2,
            "energy": number / 360,
            "temperature": 25.0 + wave / 4,
            "status": "Charging",
        }
        address = address_of("c1", "charger", f"p{device}")
        readings.append(Reading(Channel.TELEMETRY, address, values, now - 40, now))
    return readings


def _spoken(rules: RuleSet, devices: int, rounds: int) -> tuple[Engine, State]:
    engine = Engine(rules, site="c1", node="bench")
    state = engine.new_state()
    for number in range(rounds):
        _step_all(engine, state, _round(devices, number))
    return engine, state


def _step_all(engine: Engine, state: State, readings: Sequence[Reading]) -> None:
    for reading in readings:
        engine.step(state, reading, reading.received_at)


def _cost_us(rules: RuleSet, devices: int) -> float:
    """Processor time of a message, in microseconds: the median of three."""
    rounds = 3
    engine, state = _spoken(rules, devices, rounds)
    took = []
    for _ in range(3):
        readings: list[Reading] = []
        while len(readings) < MESSAGES:
            readings += _round(devices, rounds)
            rounds += 1
        gc.collect()
        began = process_time()
        _step_all(engine, state, readings)
        took.append((process_time() - began) / len(readings))
    return median(took) * 1e6


def _ticks_ms(rules: RuleSet) -> tuple[float, float]:
    """From a start on while nothing is silent: each device speaks every minute, for half an hour; worst and median."""
    engine, state = _spoken(rules, MANY, 1)
    begin = BEGIN + 2 * EVERY_MS
    engine.step(state, Listening(on=False, at=begin), begin)
    engine.step(state, Listening(on=True, at=begin), begin)
    devices = list(state.devices.values())
    took = []
    for number in range(30 * 240):
        now = begin + number * 250
        for device in devices[number % 240 :: 240]:
            device.last_seen = now
        began = process_time()
        engine.tick(state, now)
        took.append(1000 * (process_time() - began))
    return max(took), median(took)


def _memory() -> tuple[float, float, float]:
    """MB with all windows of all devices full, without any rule, and of a compressed snapshot."""
    bare, _ = _measured("rules: []")
    full, snapshot = _measured(WINDOWS)
    return bare, full, snapshot


def _measured(text: str) -> tuple[float, float]:
    code = "import sys; from bench.rules import tell_memory; tell_memory(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, text], cwd=ROOT, capture_output=True, text=True, check=True
    )
    resident, snapshot = done.stdout.split()
    return float(resident), float(snapshot)


def tell_memory(text: str) -> None:
    """Fill the windows of a community, and print what that takes (MB): resident, and its snapshot."""
    _, state = _spoken(_parsed(text), COMMUNITY, 70)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, _snapshot_mb(state))


def _snapshot_mb(state: State) -> float:
    header, devices = freeze(state)
    return len(compress(b"".join([header, *(body for _, body in devices)]), 1)) / 1e6
