"""Rules replayed over history: readings per second of one core, all cores, peak memory; and what a swap of rules costs.

The history is what the bench's community says, 200 messages a second, in the journal of a gateway; `anlin rules replay`
runs on it as a person would call it.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.community import PREFIX, SITE, messages, registry
from bench.figures import Figure, Tell, at_least
from bench.gateway import ROOT
from bench.profiles import sampled
from bench.world import Scale
from devices.decoding import decode
from devices.topics import Route, Topics
from edge.checking import engine_of, load_registry, load_rules
from edge.settings import Config
from edge.store.records import Batch
from edge.store.retention import Bounds
from edge.store.schema import FILE
from edge.store.writer import Writer
from rules.definitions import RuleSet
from rules.state import freeze

NAME = "replay"
RATE_PER_S = 200
BATCH = 50


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Live a history, replay it, swap rules on the state that it leaves."""
    with sampled(profile):
        _run(folder, scale, tell)


def _run(folder: Path, scale: Scale, tell: Tell) -> None:
    data = folder / "data"
    (folder / "devices.yaml").write_text(registry(), encoding="utf-8")
    config = folder / "anlin.yaml"
    config.write_text(
        f"data_dir: {data}\ndevices: {folder / 'devices.yaml'}\nlanguage: en\n", encoding="utf-8"
    )
    end = _live(data, scale.messages)
    one = _replay(config, "--jobs", "1")
    tell(Figure(NAME, "readings replayed", one.readings, "readings"))
    tell(Figure(NAME, "shipped packs, one process", one.per_core, "readings/s per core", at_least(60_000)))
    tell(Figure(NAME, "its peak memory", one.peak_mb, "MB"))
    every = _replay(config)
    tell(Figure(NAME, f"on {os.cpu_count()} cores", every.readings / every.took_s, "readings/s"))
    tell(Figure(NAME, "peak memory of a process then", every.peak_mb, "MB"))
    _swap(config, data, end, tell)


class _Run:
    """What one call has cost, and said."""

    def __init__(self, told: bytes, cpu_s: float, took_s: float, peak_mb: float) -> None:
        report = json.loads(told)
        self.readings: int = report["readings"]
        self.per_core = self.readings / cpu_s
        self.took_s = took_s
        self.peak_mb = peak_mb


def _replay(config: Path, *more: str) -> _Run:
    """The whole command; its processor time holds the start of Python and the reading of rules and registry."""
    begun = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "edge",
        "rules",
        "replay",
        "--from",
        "-30d",
        "--json",
        "--config",
        str(config),
    ]
    with (config.parent / "told").open("wb") as out:
        process = subprocess.Popen([*command, *more], cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"replay ended with {process.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    told = (config.parent / "told").read_bytes()
    return _Run(told, cpu_s, time.monotonic() - begun, usage.ru_maxrss / 1024)


def _live(data: Path, count: int) -> int:
    """A journal of ``count`` messages, up to now; its last moment (Unix ms)."""
    data.mkdir(parents=True)
    writer = Writer(data / FILE, Bounds(10**10), forwarding=False)
    writer.open()
    writer.connection.execute("PRAGMA synchronous = OFF")
    topics, routes = Topics(PREFIX, SITE), dict[str, Route]()
    now = time.time_ns() // 1_000_000 - count * 1_000 // RATE_PER_S
    batch = Batch(1)

    def moment() -> int:
        return now

    for number, message in zip(range(count), messages(0, 1, moment), strict=False):
        route = routes.get(message.topic)
        if route is None:
            found = topics.route(message.topic)
            if not isinstance(found, Route):
                raise TypeError(message.topic)
            route = routes[message.topic] = found
        batch.inputs.append(decode(route, message.payload, now))
        if number % BATCH == BATCH - 1:
            batch.now = now
            writer.commit(batch)
            batch = Batch(batch.seq + 1)
        if number % RATE_PER_S == RATE_PER_S - 1:
            now += 1_000
    writer.close()
    return now


def _swap(config: Path, data: Path, end: int, tell: Tell) -> None:
    """How long the event loop is held while other rules take over 8,000 devices: one rule changed, all changed."""
    settings = Config(data_dir=data, devices=config.parent / "devices.yaml")
    make = partial(engine_of, settings, load_registry(settings))
    rules = load_rules(settings)
    for name, changed in (("one rule changed", 1), ("all rules changed", len(rules.rules))):
        engine = make(rules)
        state = engine.new_state()
        for number, message in zip(range(20_000), messages(0, 1, lambda: end), strict=False):
            route = Topics(PREFIX, SITE).route(message.topic)
            if isinstance(route, Route):
                engine.step(state, decode(route, message.payload, end + number), end + number)
        after = tuple(
            replace(rule, version="other") if number < changed else rule
            for number, rule in enumerate(rules.rules)
        )
        other = make(RuleSet(after, "other"))
        begun = time.perf_counter()
        other.succeed(state, rules, end + 20_000)
        freeze(state)
        took_ms = (time.perf_counter() - begun) * 1_000
        tell(Figure(NAME, f"a swap of rules under {len(state.devices):,} devices, {name}", took_ms, "ms"))
