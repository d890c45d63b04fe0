"""How `anlin rules replay` and `anlin rules apply` are said; what they do is imported when they run."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

REPLAY_DOES = "try rules on the gateway's own history: what would have been raised and cleared"
REPLAY_EXAMPLE = "--rules my-rules.yaml --from -7d --to now --compare my-rules-old.yaml"
APPLY_DOES = "check and try rule files, show the difference, then let the running gateway take them over"
APPLY_EXAMPLE = "my-rules.yaml --yes"

_MOMENTS = ("--from", "--to")
_BEFORE_NOW = re.compile(r"-\d")


def with_moments(given: Sequence[str]) -> list[str]:
    """The command line with ``--from -24h`` as ``--from=-24h``: argparse would take -24h for an option."""
    joined: list[str] = []
    for word in given:
        if joined and joined[-1] in _MOMENTS and _BEFORE_NOW.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `anlin rules replay`."""
    parser.epilog = (
        f"{parser.epilog}   T is now, a span before now (-24h, -7d), a day (2026-11-20) or a time"
        " (2026-11-20T08:00, RFC 3339). Reads only, beside a running gateway or on a copied data directory."
    )
    parser.add_argument(
        "--rules", nargs="+", type=Path, metavar="FILE", help="these files (the rules in force)"
    )
    parser.add_argument(
        "--compare", nargs="+", type=Path, metavar="FILE", help="another version, to show the difference"
    )
    parser.add_argument("--from", dest="begin", default="-24h", metavar="T", help="from when on (-24h)")
    parser.add_argument("--to", dest="end", default="now", metavar="T", help="until when (now)")
    parser.add_argument(
        "--warm-up",
        metavar="SPAN",
        help="how much to read before, uncounted (the longest time that one of the rules looks back)",
    )
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="processes (one a processor)")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `anlin rules apply`."""
    what = "rule files to take over as they are now; without: all that the configuration names, and the shipped packs"
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=what)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="processes for the replay (one a processor)")


def _jobs(text: str) -> int:
    if text.isdigit() and 1 <= int(text) <= 64:  # noqa: PLR2004 - more than any gateway has
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 1 to 64, is {text!r}")
