"""How a verb of the command line is declared, and what all of them do in the same way.

Results go to standard output; what a person must mend goes to standard error, one line a fault. A verb imports
what it needs when it runs, so that ``--help`` answers at once: this module imports nothing that takes time.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devices.faults import Fault

if TYPE_CHECKING:
    from edge.settings import Config

    Verbs = argparse._SubParsersAction["Parser"]  # noqa: SLF001 - argparse has no public name for it

EXIT_WRONG = 1
"""Something is wrong with what was asked about, or it cannot be reached."""

EXIT_CONFIGURATION = 2
"""A file or an argument is wrong."""

SOME_ID = "01JD3ZK2V8Q5T9W4M7N6P0R1SX"
"""Of an alarm or an order, in examples."""

Verb = Callable[[argparse.Namespace], int]
"""Does what was said; the exit code."""


class Failure(Exception):
    """The command cannot do what was asked; the text is one line and says what to do."""


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, with where the help is."""

    def error(self, message: str) -> NoReturn:
        """End with it, and with `EXIT_CONFIGURATION`."""
        self.exit(EXIT_CONFIGURATION, f"{self.prog}: {message}; see {self.prog} --help\n")


# --- declared -----------------------------------------------------------------------------------------------


def add_verb(verbs: "Verbs", name: str, verb: Verb, does: str, example: str) -> Parser:
    """One more verb: what it does, begun small and without a full stop, and an example of what may follow it."""
    parser = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.epilog = f"example: {parser.prog} {example}"
    parser.set_defaults(verb=verb)
    return parser


def add_config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """``--config``; see `config_of`."""
    what = "configuration file (./anlin.yaml if there is one, else the defaults)"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=what)


# --- done ---------------------------------------------------------------------------------------------------


def config_of(arguments: argparse.Namespace) -> "Config":
    """The configuration that was asked for; notes its language. Raises `ConfigurationError`."""
    from edge.config import load

    config = load(arguments.config, os.environ)
    arguments.language = config.language
    return config


def spoken(arguments: argparse.Namespace) -> str:
    """The language of what was read last by `config_of`; English before that."""
    return str(getattr(arguments, "language", "en"))


def journal_of(config: "Config") -> Path:
    """The journal of the gateway with this configuration."""
    from edge.store.schema import FILE

    return config.data_dir / FILE


def socket_of(config: "Config") -> Path:
    """The control socket of the gateway with this configuration."""
    from edge.control_client import SOCKET_NAME

    return config.data_dir / SOCKET_NAME


def print_json(text: bytes) -> None:
    """JSON as people read it, too."""
    import msgspec

    print(msgspec.json.format(text, indent=2).decode())


def print_lines(lines: Iterable[str]) -> None:
    """What people read: whatever a device or a person said, a line stays one line and does not steer the terminal."""
    from rules.language.texts import on_one_line

    for line in lines:
        print(on_one_line(line))


def tell_faults(faults: Sequence[Fault]) -> None:
    """On standard error, a line each."""
    for fault in faults:
        tell(str(fault))


def tell(line: str) -> None:
    """Say something beside the result, or why there is none."""
    from rules.language.texts import on_one_line

    print(on_one_line(line), file=sys.stderr)
