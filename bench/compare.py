"""``python -m bench.compare``: was anything lost? A program of its own, apart from all that it judges.

The publishers' ledger says what the broker acknowledged. The journal is read from its file, the store
through its export; both must hold every line of the ledger. Exit code 1 if anything is missing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from bench.community import SITE
from devices.readings import Reading
from edge.store.reader import JournalReader

IN_EVERY = (
    "charger_voltage",
    "smoke_density",
    "button_linkquality",
    "button_action_code",
    "elevator_floor",
    "elevator_score",
)
"""Series of the store, one of which every message of the bench's community writes to."""

_SLICE = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and what is missing of the ledger."""

    acknowledged: int
    journal: int
    """Readings of devices in the journal."""
    repeated: int
    """Of these, how many were there already."""
    missing_in_journal: int
    missing_in_store: int | None
    """None where no store was looked at."""
    examples: Sequence[str]


class _Labels(msgspec.Struct):
    name: str = msgspec.field(name="__name__")
    device: str = ""


class _Series(msgspec.Struct):
    metric: _Labels
    timestamps: list[int]


def compare(ledgers: Sequence[Path], journal: Path, store_port: int | None) -> Verdict:
    """Hold the ledgers against the journal file and the store."""
    wanted = {line for ledger in ledgers for line in ledger.read_text().splitlines()}
    held: set[str] = set()
    readings = 0
    for line in in_journal(journal):
        readings += 1
        held.add(line)
    lost = wanted - held
    lost_in_store: set[str] | None = None
    if store_port is not None:
        lost_in_store = wanted.difference(in_store(store_port))
    return Verdict(
        acknowledged=len(wanted),
        journal=readings,
        repeated=readings - len(held),
        missing_in_journal=len(lost),
        missing_in_store=None if lost_in_store is None else len(lost_in_store),
        examples=sorted(lost or lost_in_store or ())[:5],
    )


def in_journal(path: Path) -> Iterator[str]:
    """Every reading of a device in the journal, as the ledger writes it."""
    with JournalReader(path) as reader:
        seq = 0
        while batches := reader.batches_after(seq, _SLICE):
            for batch in batches:
                for given in batch.inputs:
                    if isinstance(given, Reading) and "/gateway/" not in given.address:
                        yield f"{given.address} {given.source_time}"
            seq = batches[-1].seq


def in_store(port: int) -> Iterator[str]:
    """Every point of a device in VictoriaMetrics, as the ledger writes it."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/internal/force_flush")
    connection.getresponse().read()
    names = "|".join(IN_EVERY)
    connection.request("GET", "/api/v1/export?" + urlencode({"match[]": f'{{__name__=~"{names}"}}'}))
    answer = connection.getresponse()
    decode = msgspec.json.Decoder(_Series).decode
    for line in answer:
        series = decode(line)
        address = f"{SITE}/{series.metric.name.split('_')[0]}/{series.metric.device}"
        for at in series.timestamps:
            yield f"{address} {at}"
    connection.close()


def main() -> int:
    """Compare and tell."""
    parser = argparse.ArgumentParser(description="Compare the publishers' ledger with journal and store.")
    parser.add_argument("--ledger", type=Path, nargs="+", required=True)
    parser.add_argument("--journal", type=Path, required=True, help="the journal's file")
    parser.add_argument("--store-port", type=int, help="of VictoriaMetrics; without it only the journal")
    arguments = parser.parse_args()
    verdict = compare(arguments.ledger, arguments.journal, arguments.store_port)
    print(json.dumps(msgspec.to_builtins(verdict)))
    return int(bool(verdict.missing_in_journal or verdict.missing_in_store))


if __name__ == "__main__":
    sys.exit(main())
