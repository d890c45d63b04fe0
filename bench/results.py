"""bench/RESULTS.md: the figures, where and how they were measured, and what explains those that miss."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.figures import Figure, percentile, shown
from tools.servers import locate

SYNCS = 200
_BLOCK = b"\0" * 4_096
_LIBRARIES = ("mqtt5", "msgspec", "influxdb-client", "aiomqtt", "paho-mqtt", "fastapi", "uvicorn", "pydantic")

_HEAD = """# Results

Written by `{command}` on {date}; do not edit. What is measured and how is said in
[docs/benchmarks.md](../docs/benchmarks.md). Absolute figures belong to this machine; ratios travel better.

"""


def render(
    figures: Sequence[Figure], profiles: Mapping[str, str], arguments: Sequence[str], folder: Path
) -> str:
    """The whole page. ``folder``: on the disk that was used."""
    command = " ".join(["python -m bench", *arguments]) if arguments else "make bench"
    parts = [_HEAD.format(command=command, date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))]
    parts += ["## Machine and versions\n\n", *(f"- {line}\n" for line in (*machine(folder), *versions()))]
    parts.append("\n## Figures\n")
    for bench in dict.fromkeys(figure.bench for figure in figures):
        parts.append(f"\n### {bench}\n\n| figure | value | target | met |\n|---|---:|---:|---|\n")
        parts += [_row(figure) for figure in figures if figure.bench == bench]
    missed = [figure for figure in figures if figure.ok is False]
    parts.append("\n## Missed\n\n")
    if not missed:
        parts.append("Nothing.\n")
    for bench in dict.fromkeys(figure.bench for figure in missed):
        parts.append(f"### {bench}\n\n")
        parts += [
            f"- {figure.name}: {shown(figure.value)} {figure.unit}, target {figure.target}\n"
            for figure in missed
            if figure.bench == bench
        ]
        if profiles.get(bench):
            parts.append("\nWhere the processor time went, measured in a further run under the sampler:\n\n")
            parts.append(f"```\n{profiles[bench].rstrip()}\n```\n\n")
    return "".join(parts)


def _row(figure: Figure) -> str:
    met = {None: "", True: "yes", False: "**no**"}[figure.ok]
    target = "" if figure.target is None else str(figure.target)
    return f"| {figure.name} | {shown(figure.value)} {figure.unit} | {target} | {met} |\n"


def machine(folder: Path) -> list[str]:
    """Processor, memory, kernel, and what a sync of the disk costs."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    gigabytes = int(memory[1]) * 1024 / 1e9 if memory is not None else 0
    took = sync_times_ms(folder)
    return [
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {gigabytes:.0f} GB",
        f"{platform.system()} {platform.release()}, load at the end {os.getloadavg()[0]:.1f}",
        f"write and fsync of 4 KiB: p50 {percentile(took, 0.5):.2f} ms, p99 {percentile(took, 0.99):.2f} ms",
    ]


def versions() -> list[str]:
    """Of everything that takes part."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    broker = _said([str(locate("mosquitto")), "-h"])
    return [
        f"Anlin {version('anlin')}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        libraries,
        f"{broker} with deploy/mosquitto.conf; victoria-metrics {_package('victoria-metrics')}",
    ]


def sync_times_ms(folder: Path) -> list[float]:
    """How long writing and syncing a block takes."""
    path = folder / "sync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(_BLOCK)
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return took


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else ""


def _package(name: str) -> str:
    """The version that Debian knows: this program does not tell its own."""
    if shutil.which("dpkg-query") is None:
        return ""
    return _said(["dpkg-query", "--showformat=${Version}", "--show", name])
