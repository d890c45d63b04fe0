"""`anlin rules test`: the rules' own examples and whole stories in virtual time, and the report of it.

Nothing here needs a gateway, a broker or a network. The report goes to standard output as it comes, or into a file;
what a person must mend goes to standard error.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from devices.faults import ConfigurationError, Fault
from edge.checking import PACKS, load_rules
from edge.settings import Config, shown_path
from edge.shell.verbs import EXIT_WRONG
from rules.definitions import RuleSet
from rules.examples import run as run_examples
from rules.language.texts import Language
from rules.wording import mismatch_line
from simulators.named_rules import unknown_rules
from simulators.performance import Performance
from simulators.rehearsal import rehearse
from simulators.report import (
    Examined,
    brief_line,
    example_lines,
    failure_lines,
    head_lines,
    junit,
    scenario_lines,
    summary_lines,
)
from simulators.scenario import SHIPPED, Scenario, find_scenario, load_scenario

LONG_S = 600.0
"""The story's time between two signs of life on a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads, beside ``--config`` and the rule files."""
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="FILE",
        help="a scenario file, a folder of them, or a shipped one by name; can be repeated (without: all shipped)",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the outcome as JUnit XML, too")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report there and only a summary here"
    )


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Test. 0 everything passes, 1 something fails. Raises `ConfigurationError` for a file that is wrong."""
    rules = load_rules(config, *arguments.files)
    own = frozenset(rule.id for rule in rules.rules if not rule.file.startswith(f"{PACKS}/"))
    scenarios = _load(arguments.scenario)
    unknown = [fault for scenario in scenarios for fault in unknown_rules(scenario.named_rules, rules)]
    if unknown:
        raise ConfigurationError(unknown)
    language = Language(config.language)
    with _Report(arguments.report) as report:
        at = datetime.now(UTC).astimezone(ZoneInfo(config.timezone))
        report.tell(
            head_lines(
                language, at=at, version=version("anlin"), rules=len(rules.rules), rule_hash=rules.hash
            )
        )
        examined = _examine(rules)
        report.tell(example_lines(examined, language))
        played: list[Performance] = []
        for number, scenario in enumerate(scenarios, start=1):
            place = f"[{number}/{len(scenarios)}] "
            one = rehearse(
                scenario,
                rules,
                progress=_Progress(place + scenario.name, scenario.duration_s),
                unjudged=own if _comes_with_anlin(scenario) else (),
            )
            played.append(one)
            report.tell(scenario_lines(one, language, place))
            if arguments.report is not None:
                print(brief_line(one, language), flush=True)
        report.tell(summary_lines(examined, played, language))
    if arguments.report is not None:
        print("\n".join(list(summary_lines(examined, played, language))[-3:]))
    if arguments.junit is not None:
        _write(arguments.junit, junit(examined, played))
    wrong = [mismatch_line(mismatch, language) for one in examined for mismatch in one.mismatches]
    wrong += [line for one in played for line in failure_lines(one, language)]
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return EXIT_WRONG if wrong else 0


def _examine(rules: RuleSet) -> list[Examined]:
    return [
        Examined(rule.id, rule.file, len(rule.examples), tuple(run_examples(rule, rules)))
        for rule in rules.rules
    ]


def _comes_with_anlin(scenario: Scenario) -> bool:
    """Such a story knows the shipped rules and no other."""
    return Path(scenario.file).resolve().parent == SHIPPED.resolve()


def _load(named: Sequence[str]) -> list[Scenario]:
    """The scenarios that are asked for, every fault of every file told at once."""
    files: list[Path] = []
    faults: list[Fault] = []
    for name in named or [str(SHIPPED)]:
        if Path(name).is_dir():
            found = sorted(Path(name).glob("*.yaml")) + sorted(Path(name).glob("*.yml"))
            if not found:
                faults.append(Fault(name, "", "there is no scenario (*.yaml) in this folder"))
            files += found
            continue
        try:
            files.append(find_scenario(name))
        except ConfigurationError as error:
            faults += error.faults
    scenarios = []
    for file in dict.fromkeys(files):
        try:
            scenarios.append(load_scenario(file, shown_path(file.absolute())))
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return scenarios


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError([Fault(str(path), "", f"cannot be written: {error.strerror}")])


class _Report:
    """Where the report goes: lines to standard output, or into a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        if self._path is not None:
            _write(self._path, b"")  # before anything takes long
        return self

    def __exit__(self, *failure: object) -> None:
        if self._path is not None:
            _write(self._path, ("\n".join(self._lines) + "\n").encode())

    def tell(self, lines: Iterable[str]) -> None:
        """Add lines."""
        if self._path is not None:
            self._lines += lines
            return
        for line in lines:
            print(line)
        sys.stdout.flush()


class _Progress:
    """A sign of life on a terminal while a long story is played."""

    def __init__(self, what: str, duration_s: float) -> None:
        self._what = what
        self._duration_s = duration_s
        self._told_s = 0.0

    def __call__(self, now_s: float) -> None:
        if sys.stderr.isatty() and now_s - self._told_s >= LONG_S:
            self._told_s = now_s
            sys.stderr.write(f"\r{self._what}: {min(1.0, now_s / self._duration_s):.0%}\x1b[K\r")
            sys.stderr.flush()
