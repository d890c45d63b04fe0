"""A day of the whole community as local history: what compaction costs, how large it is, how soon it answers.

The readings are made straight into a journal, in larger batches than a gateway's, because a day of commits would take
a day. From there on everything is the real thing: a process a run, the web process and its helper, HTTP.
"""

import asyncio
import os
import random
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path

from bench.community import DEVICES, PREFIX, SITE, addresses, messages
from bench.figures import Figure, Tell, at_least, at_most, percentile
from bench.gateway import ROOT
from bench.profiles import sampled
from bench.world import Scale
from devices.decoding import decode
from devices.readings import Reading
from devices.topics import Route, Topics
from edge.history.catalogue import folder_of, parts_in
from edge.history.readings import readings
from edge.history.settings import HistorySettings
from edge.store.inputs import Inputs
from edge.store.records import Batch
from edge.store.retention import Bounds
from edge.store.schema import FILE
from edge.store.writer import Pressure, Writer
from tests.web_world import Web, web

NAME = "history"
RATE = 200
"""Messages a second of 8,000 devices."""

BATCH = 1_000
RUN_S = 900
"""Event time between two runs, so that the bench does not start three hundred processes."""

NEWEST_S = 300
"""What is left to the journal alone."""

VOCABULARY = 60_000
"""Different readings; the day is made of them again and again, each device at its times."""

START_MS = 1_790_000_000_000
WARM_MS, COLD_MS = 200.0, 1_000.0
REPLAY = 150_000
SEED = 5


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Make the day, compacting as it goes; then ask and replay."""
    with sampled(profile):
        _run(folder, scale, tell)


def _run(folder: Path, scale: Scale, tell: Tell) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    count, cpu_s, took = _day(folder, scale.history_s)
    tell(Figure(NAME, "readings", count, "readings"))
    tell(Figure(NAME, "a run every fifteen minutes of the day", took, "s each"))
    tell(Figure(NAME, "compaction", cpu_s / count * 1e6, "CPU-s/million"))
    tell(Figure(NAME, "largest run", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, "MB"))
    found = parts_in(folder_of(folder))
    size, taken = sum(part.size for part in found), sum(part.readings for part in found)
    tell(Figure(NAME, "parts", len(found), "files"))
    tell(Figure(NAME, "size", size / taken, "MB/million"))
    tell(Figure(NAME, "the day was made in", time.monotonic() - began, "s"))
    to_ms = START_MS + scale.history_s * 1_000
    asyncio.run(_ask(folder, f"from={START_MS}&to={to_ms}", scale, tell))
    cpu, read = time.process_time(), 0
    for chunk in readings(folder, to_ms - min(scale.history_s, 4 * 3_600) * 1_000, to_ms):
        read += len(chunk)
    tell(
        Figure(
            NAME, "given to replay", read / (time.process_time() - cpu), "readings/CPU-s", at_least(REPLAY)
        )
    )


def _day(folder: Path, seconds: int) -> tuple[int, float, float]:
    """How many readings; CPU seconds of the compaction; seconds of a run, on average."""
    writer = Writer(folder / FILE, Bounds(10**11), forwarding=False)
    writer.open()
    settings = HistorySettings(data_dir=str(folder), every_s=300, max_days=90, max_bytes=10**12)
    stream, seq, count = _spoken(), 0, 0
    cpu_s, runs_s = 0.0, list[float]()
    steps = [*range(0, seconds - NEWEST_S, RUN_S), seconds - NEWEST_S, seconds]
    for begin, end in pairwise(steps):
        size = BATCH if end < seconds else RATE // 4  # the newest as a gateway commits them
        for _ in range((end - begin) * RATE // size):
            batch = list(islice(stream, size))
            seq, count = seq + 1, count + len(batch)
            writer.commit(Batch(seq, now=batch[-1].received_at, inputs=Inputs(batch)))
            writer.keep_house(Pressure.BATCHES)
        if end < seconds:
            before, began = _children_s(), time.monotonic()
            with subprocess.Popen(
                settings.command(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            ) as process:
                if process.wait():
                    raise RuntimeError("a run of the compaction failed")
            cpu_s += _children_s() - before
            runs_s.append(time.monotonic() - began)
    writer.close()
    return count, cpu_s, sum(runs_s) / len(runs_s)


def _spoken() -> Iterator[Reading]:
    """The community, one reading every 1/RATE s, for ever."""
    topics, vocabulary = Topics(PREFIX, SITE), list[Reading]()
    for message in islice(messages(0, 1, lambda: START_MS), VOCABULARY):
        route = topics.route(message.topic)
        assert isinstance(route, Route)  # noqa: S101 - the community speaks the contract
        vocabulary.append(decode(route, message.payload, START_MS))
    for number, known in enumerate(cycle(vocabulary)):
        at = START_MS + number * 1_000 // RATE
        yield Reading(known.channel, known.address, known.values, at, at + 7)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _ask(folder: Path, day: str, scale: Scale, tell: Tell) -> None:
    """As a person who looks at one device after another; cold: nothing of it is in memory, no helper runs."""
    chosen = random.Random(SEED)
    kinds = islice(cycle(DEVICES), scale.history_questions)
    devices = [chosen.choice(addresses(kind)) for kind in kinds]
    cold: list[float] = []
    for address in devices[:5]:
        async with web(folder) as board:
            await board.get("/api/v1/gaps")  # the web itself is up
            _forget(folder)
            cold.append(await _took_ms(board, address, f"{day}&step=5m"))
    async with web(folder) as board:
        await _took_ms(board, devices[0], day)
        warm = [await _took_ms(board, address, f"{day}&step=5m") for address in devices]
        raw = [await _took_ms(board, address, f"{day}&limit=10000") for address in devices]
    tell(
        Figure(NAME, "a day of one device in steps, warm, p50", percentile(warm, 0.5), "ms", at_most(WARM_MS))
    )
    tell(Figure(NAME, "a day of one device in steps, warm, worst", max(warm), "ms", at_most(WARM_MS)))
    tell(
        Figure(
            NAME,
            "a day of one device, every reading, warm, p50",
            percentile(raw, 0.5),
            "ms",
            at_most(WARM_MS),
        )
    )
    tell(
        Figure(NAME, "a day of one device in steps, cold, p50", percentile(cold, 0.5), "ms", at_most(COLD_MS))
    )
    tell(Figure(NAME, "a day of one device in steps, cold, worst", max(cold), "ms", at_most(COLD_MS)))


async def _took_ms(board: Web, address: str, query: str) -> float:
    _, kind, device = address.split("/")
    began = time.monotonic()
    answer = await board.get(f"/api/v1/devices/{kind}/{device}/history?{query}")
    took = (time.monotonic() - began) * 1_000
    if answer.status != 200 or not answer.json["items"]:  # noqa: PLR2004 - HTTP's own number
        raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")
    return took


def _forget(folder: Path) -> None:
    """Let the kernel drop what it holds of the history and the journal."""
    files: Sequence[Path] = [part.path for part in parts_in(folder_of(folder))] + [folder / FILE]
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
