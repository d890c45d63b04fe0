"""``python -m bench [NAME...] [--quick]``: measure, print JSON lines, write bench/RESULTS.md.

Without names every bench but `history` and `soak` runs and the results are written; with names or ``--quick`` they are
only printed, unless ``--output`` says where to. ``--profile`` runs under `bench.sampler` and prints where the
time went.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import (
    backlog,
    disk,
    footprint,
    history,
    latency,
    pressure,
    recovery,
    replay,
    rules,
    soak,
    throughput,
    unwritable,
)
from bench.figures import Figure, Tell
from bench.gateway import ROOT
from bench.neighbours import Neighbours
from bench.profiles import report
from bench.results import render
from bench.world import FULL, QUICK, Scale

BUILD = ROOT / "build" / "bench"
"""On the disk of the checkout: in memory a durable commit would cost nothing."""

RESULTS = ROOT / "bench" / "RESULTS.md"

Bench = Callable[[Path, Scale, Tell, Path | None], None]

BENCHES: Mapping[str, Bench] = {
    module.NAME: module.run
    for module in (
        throughput,
        latency,
        pressure,
        footprint,
        recovery,
        replay,
        rules,
        backlog,
        disk,
        unwritable,
        history,
        soak,
    )
}
ON_REQUEST = frozenset({soak.NAME, history.NAME})
"""Not part of a whole run."""


def main() -> int:
    """Measure; 0 when everything ran, whatever the figures say."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway.")
    told = f"{', '.join(BENCHES)}; without it all but {' and '.join(sorted(ON_REQUEST))}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs; means nothing")
    parser.add_argument(
        "--profile", action="store_true", help="under the sampler; figures are not comparable"
    )
    parser.add_argument("--output", type=Path, help=f"where to write results ({RESULTS.relative_to(ROOT)})")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHES]:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that nothing is left running
    names = arguments.names or [name for name in BENCHES if name not in ON_REQUEST]
    scale = QUICK if arguments.quick else FULL
    output = arguments.output or (
        None if arguments.names or arguments.quick or arguments.profile else RESULTS
    )

    figures: list[Figure] = []
    profiles: dict[str, str] = {}
    for name in names:
        found, profile = measure(name, scale, profiled=arguments.profile)
        figures += found
        if profile:
            print(profile)
    if output is not None:
        for name in dict.fromkeys(figure.bench for figure in figures if figure.ok is False):
            print(f"a target of {name} is missed; once more, for its profile", file=sys.stderr)
            profiles[name] = measure(name, scale, profiled=True, quiet=True)[1]
        output.write_text(render(figures, profiles, sys.argv[1:], BUILD))
    return 0


def measure(name: str, scale: Scale, *, profiled: bool, quiet: bool = False) -> tuple[list[Figure], str]:
    """One bench in a folder of its own: its figures, and its profile where asked for."""
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)  # the servers' folders, too
    profile = folder / "profile" if profiled else None
    if profile is not None:
        profile.mkdir()
    figures: list[Figure] = []

    def tell(figure: Figure) -> None:
        figures.append(figure)
        if not quiet:
            print(figure.line(), flush=True)

    try:
        neighbours = Neighbours()
        BENCHES[name](folder, scale, tell, profile)
        tell(Figure(name, "other programs on this machine meanwhile", neighbours.share(), "% of its cores"))
        return figures, report(profile) if profile is not None else ""
    finally:
        tempfile.tempdir = usual
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
