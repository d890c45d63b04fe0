"""The bench measures what it says: its ledger finds what is missing, its devices are real, its figures are read."""

import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from bench.community import DEVICES, PREFIX, SITE, messages
from bench.compare import IN_EVERY, compare
from bench.figures import Figure, at_least, at_most, percentile
from bench.profiles import report, sampled
from bench.publisher import spread
from bench.results import render
from cloud_bridge.lines import Lines
from cloud_bridge.outcomes import Stored
from cloud_bridge.writer import CloudStore, StoreSettings
from devices.decoding import decode
from devices.readings import Reading
from devices.topics import Route, Topics
from edge.store.inputs import Inputs
from edge.store.records import Batch
from edge.store.retention import Bounds
from edge.store.writer import Writer
from tests.servers import VictoriaMetrics

pytestmark = pytest.mark.timed

ROOT = Path(__file__).resolve().parent.parent
NOW = 1_790_000_000_000


def spoken(count: int) -> list[Reading]:
    """What the gateway makes of the first messages of the bench's community."""
    topics = Topics(PREFIX, SITE)
    readings = []
    for message in islice(messages(0, 1, lambda: NOW), count):
        route = topics.route(message.topic)
        assert isinstance(route, Route)
        reading = decode(route, message.payload, NOW)
        assert (reading.address, reading.source_time, reading.flags) == (message.address, message.ts, 0)
        readings.append(reading)
    return readings


def ledger_line(reading: Reading) -> str:
    return f"{reading.address} {reading.source_time}"


def journal_of(path: Path, readings: list[Reading]) -> None:
    writer = Writer(path, Bounds(2**26), forwarding=False)
    writer.open()
    writer.commit(Batch(1, now=NOW, inputs=Inputs(readings)))
    writer.close()


def test_no_message_of_the_community_looks_like_another_and_every_device_speaks() -> None:
    readings = spoken(25_000)
    assert len({ledger_line(reading) for reading in readings}) == len(readings)
    assert len({reading.address for reading in readings}) == sum(DEVICES.values())


def test_two_shares_of_the_community_have_no_device_in_common() -> None:
    shares = [
        {message.address for message in islice(messages(share, 2, lambda: NOW), 20_000)} for share in (0, 1)
    ]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == sum(DEVICES.values())


def test_every_message_writes_to_a_series_that_the_comparison_reads() -> None:
    lines = Lines(SITE, "gw-1", lambda _: {}, forward_activity=False)
    for reading in spoken(5_000):
        (line,) = lines.readings([reading])
        head, fields, _ = line.decode().rsplit(" ", 2)
        written = {f"{head.split(',')[0]}_{field.split('=')[0]}" for field in fields.split(",")}
        assert len(written.intersection(IN_EVERY)) == 1


def test_the_comparison_finds_what_journal_and_store_lack(tmp_path: Path) -> None:
    readings = spoken(1_000)
    journal, ledgers = tmp_path / "journal.db", [tmp_path / "ledger-0", tmp_path / "ledger-1"]
    lines = [ledger_line(reading) for reading in readings]
    ledgers[0].write_text("\n".join(lines[:600]) + "\n")
    ledgers[1].write_text("\n".join(lines[600:]) + "\n")
    journal_of(journal, readings[1:])
    stored = Lines(SITE, "gw-1", lambda _: {}, forward_activity=False).readings(readings[:-2])
    with VictoriaMetrics() as server:
        store = CloudStore(StoreSettings(server.url, "anlin", "community"))
        assert isinstance(store.write(b"\n".join(stored)), Stored)
        store.close()
        verdict = compare(ledgers, journal, server.port)
    assert (verdict.acknowledged, verdict.journal, verdict.repeated) == (1_000, 999, 0)
    assert (verdict.missing_in_journal, verdict.missing_in_store) == (1, 2)
    assert list(verdict.examples) == [lines[0]]


def test_the_comparison_counts_what_the_journal_holds_twice(tmp_path: Path) -> None:
    readings = spoken(10)
    (tmp_path / "ledger-0").write_text("\n".join(map(ledger_line, readings)))
    journal_of(tmp_path / "journal.db", [*readings, readings[3]])
    verdict = compare([tmp_path / "ledger-0"], tmp_path / "journal.db", None)
    assert (verdict.repeated, verdict.missing_in_journal, verdict.missing_in_store) == (1, 0, None)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5.0), (0.99, 10.0), (0.0, 1.0), (0.9, 9.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(10, 0, -1)], share) == expected


def test_a_missed_target_is_said_and_explained_in_the_results(tmp_path: Path) -> None:
    figures = [
        Figure("latency", "p99", 24.9, "ms", at_most(25)),
        Figure("backlog", "drained", 39_000, "points/s", at_least(40_000)),
    ]
    page = render(figures, {"backlog": "99 %  nap"}, [], tmp_path)
    assert "| p99 | 24.90 ms | ≤ 25 | yes |" in page
    assert "| drained | 39,000 points/s | ≥ 40,000 | **no** |" in page
    missed = page.split("## Missed")[1]
    assert "99 %  nap" in missed
    assert "p99" not in missed


def spend(cpu_s: float) -> None:
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        sum(range(1_000))


def test_a_bench_that_works_in_its_own_process_can_be_profiled_too(tmp_path: Path) -> None:
    before = dict(os.environ)
    with sampled(tmp_path):
        assert os.environ["BENCH_PROFILE"] == str(tmp_path)
        spend(0.7)
    assert dict(os.environ) == before
    assert "test_bench.py:spend" in report(tmp_path)


def test_messages_can_be_spread_over_a_time_by_the_devices_own_clocks() -> None:
    now_ms = spread(600, 1_000)
    said = [now_ms() for _ in range(1_000)]
    assert said[-1] - said[0] == pytest.approx(600_000, rel=0.01)
    assert time.time() * 1_000 - said[-1] < 10_000


def test_a_quick_bench_runs_to_its_end_and_says_figures_as_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "throughput", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = {said["figure"]: said for said in map(json.loads, done.stdout.splitlines())}
    assert figures["acknowledged by the broker"]["value"] == 20_000
    for name in ("not in the journal", "not in the store"):
        assert (figures[name]["value"], figures[name]["ok"]) == (0, True)
    assert figures["gateway"]["value"] > 0
    assert set(figures["gateway"]) == {"bench", "figure", "value", "unit", "target", "ok"}
