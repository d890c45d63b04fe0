"""``anlin rules replay``: rules tried on the gateway's own history."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from zlib import crc32

from devices.faults import ConfigurationError, Fault
from devices.readings import Address
from devices.registry import Registry
from edge.checking import engine_of, load_registry
from edge.companions import accompanied
from edge.replay.moments import moment, span
from edge.replay.report import Report, json_of, lines_of
from edge.replay.trial import Span, Trial
from edge.replay.workers import Watch, run_all
from edge.rulebook import compiled, documents_of, in_force_or_on_disk
from edge.settings import Config, shown_path
from rules.definitions import RuleSet
from rules.language.texts import on_one_line
from rules.reach import Reach, look_back_ms, reach_of

LINE_S = 5.0
"""Between two lines of progress where there is no terminal."""

IN_FORCE = {"en": "the rules in force", "zh": "正在运行的规则"}
BESIDE = {"en": " (beside {rules}, in force)", "zh": "（连同正在运行的 {rules}）"}


def replay(arguments: argparse.Namespace, config: Config) -> int:
    """Run it and print the report; 0. Raises `ConfigurationError`, `StoreError`, `ReplayError`."""
    files: Sequence[Path] = arguments.rules or ()
    compared: Sequence[Path] = arguments.compare or ()
    rule_sets, names, beside = list[RuleSet](), list[str](), list[Sequence[str]]()
    if not files:
        rule_sets.append(compiled(config, in_force_or_on_disk(config)))
        names.append(IN_FORCE[config.language])
        beside.append(())
    for named in filter(None, (files, compared)):
        rules, companions = accompanied(config, documents_of(config, named))
        rule_sets.append(rules)
        names.append(_names(named, companions, config.language))
        beside.append(companions)
    time_ = _span(arguments, config, rule_sets)
    report = tried(config, load_registry(config), rule_sets, names, time_, arguments.jobs).without(beside)
    if arguments.json:
        sys.stdout.write(json_of(report).decode() + "\n")
    else:
        lines = lines_of(report, config.language, config.timezone)
        sys.stdout.writelines(f"{on_one_line(line)}\n" for line in lines)
    return 0


def tried(
    config: Config,
    registry: Registry,
    rule_sets: Sequence[RuleSet],
    names: Sequence[str],
    time_: Span,
    jobs: int | None = None,
) -> Report:
    """Run rule sets over a time, told about on standard error meanwhile. Raises `StoreError`, `ReplayError`."""
    shards, shard_of = sharding(rule_sets, registry, jobs or os.cpu_count() or 1)
    trial = Trial(
        config.data_dir,
        time_,
        rule_sets,
        partial(engine_of, config, registry),
        shard_of,
        shards,
        config.timezone,
    )
    began = time.monotonic()
    with _few_collections(), _watching(time_) as watch:
        found = run_all(trial, watch)
    return Report.of(time_, names, found, time.monotonic() - began)


def sharding(
    rule_sets: Sequence[RuleSet], registry: Registry, jobs: int
) -> tuple[int, Callable[[Address], int]]:
    """Into how many parts the devices fall, and which is whose: together stays what a rule looks at together."""
    reach = max((reach_of(rules.rules) for rules in rule_sets), default=Reach.DEVICE)
    if jobs == 1 or reach is Reach.SITE:
        return 1, lambda _address: 0

    def by_device(address: Address) -> int:
        return crc32(address.encode()) % jobs

    if reach is Reach.DEVICE:
        return jobs, by_device
    together = _neighbours(registry)
    return jobs, lambda address: crc32(together.get(address, address).encode()) % jobs


def _neighbours(registry: Registry) -> dict[Address, str]:
    """A name for each device that it shares with all of its building and of its group, and with all of theirs."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := joined.setdefault(name, name)) != name:
            name = above
        return name

    names = {}
    for address, device in registry.devices.items():
        building, group = device.place.get("building"), device.group
        known = [f"{kind}={name}" for kind, name in (("b", building), ("g", group)) if name is not None]
        if known:
            names[address] = known[0]
            joined[root(known[-1])] = root(known[0])
    return {address: root(name) for address, name in names.items()}


def _span(arguments: argparse.Namespace, config: Config, rule_sets: Sequence[RuleSet]) -> Span:
    now = time.time_ns() // 1_000_000
    from_ms = _moment("--from", arguments.begin, now, config.timezone)
    to_ms = _moment("--to", arguments.end, now, config.timezone)
    if from_ms >= to_ms:
        raise ConfigurationError([Fault("--from", "", "must be before --to", value=arguments.begin)])
    warm_up_ms = max(look_back_ms(rules.rules) for rules in rule_sets)
    if arguments.warm_up is not None:
        try:
            warm_up_ms = span(arguments.warm_up)
        except ValueError as error:
            raise ConfigurationError([Fault("--warm-up", "", str(error))]) from error
    return Span(from_ms, to_ms, warm_up_ms)


def _moment(option: str, text: str, now: int, zone: str) -> int:
    try:
        return moment(text, now, zone)
    except ValueError as error:
        raise ConfigurationError([Fault(option, "", str(error))]) from error


def _names(files: Sequence[Path], companions: Sequence[str], language: str) -> str:
    name = ", ".join(shown_path(path) for path in files)
    return name + BESIDE[language].format(rules=", ".join(companions)) if companions else name


@contextmanager
def _few_collections() -> Iterator[None]:
    """As the node: a reading makes many objects and no cycle."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


@contextmanager
def _watching(time_: Span) -> Iterator[Watch]:
    """A progress bar on a terminal, else a line every few seconds; on standard error."""
    if sys.stderr.isatty():
        with _bar(time_) as watch:
            yield watch
        return
    said_at = time.monotonic()

    def say(readings: int, at: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= LINE_S:
            said_at = time.monotonic()
            sys.stderr.write(f"{_share(time_, at):.0%}, {readings:,} readings\n")

    yield say


@contextmanager
def _bar(time_: Span) -> Iterator[Watch]:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and most replays are for programs
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - as above

    columns = (BarColumn(), TextColumn("{task.percentage:.0f}% {task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    with bar:  # without a thread of its own: workers are forked inside
        task = bar.add_task("", total=1.0)

        def draw(readings: int, at: int) -> None:
            bar.update(task, completed=_share(time_, at), description=f"{readings:,}", refresh=True)

        yield draw


def _share(time_: Span, at: int) -> float:
    whole = max(1, time_.to_ms - time_.begins_ms)
    return min(1.0, max(0.0, (at - time_.begins_ms) / whole))
