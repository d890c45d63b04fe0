"""`anlin simulate`: devices that do not exist, against any broker."""

import argparse
import asyncio
import contextlib
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from devices.faults import ConfigurationError
from devices.topics import LEVEL
from simulators.connections import Broker, BrokerUnreachableError, probe
from simulators.fleet import COUNTED, Fleet, Placement, Tempo, community, registry_tree
from simulators.play import Play
from simulators.scenario import Scenario, find_scenario, load_scenario
from simulators.simulation import Simulation
from simulators.telling import Event, describe

EXAMPLE = """example:
  anlin simulate --chargers 500 --smoke 5000 --buttons 1000 --elevators 100 --rate 200 --broker 127.0.0.1:1883
  anlin simulate --scenario demo
"""
PROGRESS_S = 10.0
INTERRUPTED = 130
_PORTS = range(1, 65_536)


class CannotSimulateError(Exception):
    """What was asked for does not go together; the text says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "--scenario", metavar="FILE", help="play a scenario file, or a shipped one by name (demo, quiet, …)"
    )
    for name in COUNTED:
        parser.add_argument(f"--{name}", type=_count, default=None, metavar="N", help=f"how many {name}")
    parser.add_argument(
        "--rate", type=_positive, metavar="MSG_PER_S", help="telemetry of all devices together"
    )
    parser.add_argument(
        "--speed", type=_positive, default=1.0, metavar="X", help="how fast the devices' time passes"
    )
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="the same seed gives the same devices"
    )
    parser.add_argument("--broker", type=_broker, default=("127.0.0.1", 1883), metavar="HOST:PORT")
    parser.add_argument("--username", metavar="NAME")
    parser.add_argument("--password-file", type=Path, metavar="FILE")
    parser.add_argument("--site", type=_level, default="c1")
    parser.add_argument("--prefix", default="community")
    parser.add_argument(
        "--seconds", type=_positive, metavar="N", help="end after so long (default: scenario's, or never)"
    )
    parser.add_argument("--registry", action="store_true", help="print the matching registry file and end")


def run(args: argparse.Namespace) -> int:
    """Simulate. 0 done, 1 an expected alarm did not come, 2 cannot begin, 130 a story was interrupted."""
    try:
        scenario, placements = _cast(args)
        if args.registry:
            yaml.safe_dump(registry_tree(placements), sys.stdout, allow_unicode=True, sort_keys=False)
            return 0
        host, port = args.broker
        broker = Broker(host, port, args.username, _password(args.password_file), args.prefix)
        return asyncio.run(_simulate(args, broker, scenario, placements))
    except (ConfigurationError, BrokerUnreachableError, CannotSimulateError) as error:
        sys.stderr.write(f"anlin simulate: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _cast(args: argparse.Namespace) -> tuple[Scenario | None, Sequence[Placement]]:
    """The devices that are asked for, and their story if there is one."""
    counts = {name: count for name in COUNTED if (count := getattr(args, name)) is not None}
    if args.scenario is None:
        if not any(counts.values()):
            raise CannotSimulateError(
                "nothing to simulate: give counts, e.g. --chargers 20 --smoke 40, or --scenario demo"
            )
        return None, community({COUNTED[name]: count for name, count in counts.items()})
    if counts:
        raise CannotSimulateError(f"--scenario brings its own devices; leave out --{', --'.join(counts)}")
    scenario = load_scenario(find_scenario(args.scenario))
    changes = {key: getattr(args, key) for key in ("rate", "seed") if getattr(args, key) is not None}
    return replace(scenario, **changes), scenario.placements


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotSimulateError(f"--password-file cannot be read: {error}") from error


async def _simulate(
    args: argparse.Namespace, broker: Broker, scenario: Scenario | None, placements: Sequence[Placement]
) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await probe(broker)
    _say(f"{len(placements)} devices at {broker.host}:{broker.port}, site {args.site}")
    if scenario is not None:
        play = Play(scenario, broker, site=args.site, tell=_tell, speed=args.speed)
        simulation, work = play.simulation, play.run(args.seconds or scenario.duration_s)
    else:
        tempo = Tempo(args.rate, args.speed)
        simulation = Simulation(
            Fleet(placements, site=args.site, seed=args.seed or 0, tempo=tempo), broker, _say
        )
        work = _run_for(simulation, args.seconds)
    task = asyncio.create_task(work, name="simulate")
    helpers = [
        asyncio.create_task(_progress(simulation), name="simulate-progress"),
        asyncio.create_task(stop.wait(), name="simulate-stop"),
    ]
    await asyncio.wait((task, *helpers), return_when=asyncio.FIRST_COMPLETED)
    for one in (task, *helpers):
        one.cancel()
    await asyncio.wait((task, *helpers))
    _say(f"{simulation.sent} messages sent, {simulation.dropped} lost on the way to the broker")
    if task.cancelled():
        return INTERRUPTED if scenario is not None else 0
    return 0 if task.result() else 1


async def _run_for(simulation: Simulation, seconds: float | None) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await simulation.run()
    return True


async def _progress(simulation: Simulation) -> None:
    sent = 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        per_second, sent = (simulation.sent - sent) / PROGRESS_S, simulation.sent
        _say(
            f"{simulation.story_s:6.0f} s  {simulation.online} online, {per_second:.1f} messages/s, "
            f"{sent} sent, {simulation.commands} commands"
        )


def _tell(event: Event) -> None:
    _say(describe(event))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- arguments --------------------------------------------------------------------------------------------


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count, such as 100")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _broker(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "1883"
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:1883")
    return host.strip("[]"), int(port)


def _level(text: str) -> str:
    if not LEVEL.match(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return text
