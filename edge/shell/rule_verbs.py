"""`anlin rules`: how its verbs are said; what they do is imported when they run."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.shell.verbs import add_config, add_verb, config_of

if TYPE_CHECKING:
    from edge.shell.verbs import Verbs

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


def add_rules(verbs: "Verbs", given: Sequence[str]) -> None:
    """Declare them; ``given`` is the command line, for what takes a while to import."""
    rules = verbs.add_parser(
        "rules",
        help="check rule files, run their examples, try them on history, apply them",
        description="Check rule files, run their examples, try them on the gateway's history, apply them.",
        epilog="example: anlin rules test my-rules.yaml",
    )
    below = rules.add_subparsers(metavar="COMMAND", required=True)
    for name, verb, does in (
        ("check", _check, "find every fault in rule files; exit 0 or 2"),
        ("test", _test, "run the rules' examples and scenarios in virtual time; exit 0, 1 or 2"),
    ):
        parser = add_verb(below, name, verb, does, "my-rules.yaml")
        add_config(parser)
        without = "rule files (without: the shipped packs and those of the configuration)"
        if name == "test":
            without = "rule files, besides the shipped packs and those of the configuration"
        parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=without)
        if name == "test" and "rules" in given and "test" in given:
            from edge.shell.rule_tests import add_arguments

            parser.epilog = (
                f"example: {parser.prog} my-rules.yaml --scenario my-story.yaml --report report.txt"
            )
            add_arguments(parser)
    _add_replay(below)
    _add_apply(below)


def _add_replay(below: "Verbs") -> None:
    does = "try rules on the gateway's own history: what would have been raised and cleared"
    example = "--rules my-rules.yaml --from -7d --to now --compare my-rules-old.yaml"
    parser = add_verb(below, "replay", _replay, does, example)
    add_config(parser)
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


def _add_apply(below: "Verbs") -> None:
    does = "check and try rule files, show the difference, then let the running gateway take them over"
    parser = add_verb(below, "apply", _apply, does, "my-rules.yaml --yes")
    add_config(parser)
    what = "rule files to take over as they are now; without: all that the configuration names, and the shipped packs"
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=what)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="processes for the replay (one a processor)")


def _jobs(text: str) -> int:
    if text.isdigit() and 1 <= int(text) <= 64:  # noqa: PLR2004 - more than any gateway has
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 1 to 64, is {text!r}")


def _check(arguments: argparse.Namespace) -> int:
    from edge.checking import load_rules
    from edge.shell.reports import say

    config = config_of(arguments)
    rules = load_rules(config, *arguments.files).rules
    files, examples = len({rule.file for rule in rules}), sum(len(rule.examples) for rule in rules)
    print(say("no faults in rules", config.language, rules=len(rules), files=files, examples=examples))
    return 0


def _test(arguments: argparse.Namespace) -> int:
    from edge.shell.rule_tests import run

    return run(arguments, config_of(arguments))


def _replay(arguments: argparse.Namespace) -> int:
    from edge.replay.command import replay

    return replay(arguments, config_of(arguments))


def _apply(arguments: argparse.Namespace) -> int:
    from edge.shell.applying import apply

    return apply(arguments, config_of(arguments))
