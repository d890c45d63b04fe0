"""Runs under `bench.sampler`, and what it wrote as a table for a person."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.sampler.sitecustomize import Sampler

SAMPLER = Path(__file__).resolve().parent / "sampler"
LINES = 14
LEAST_CPU_S = 0.5

_ROLES = {
    "edge/__main__": "node",
    "web/process": "web",
    "edge/bridge_process": "bridge",
    "history/process": "compaction",
    "history/query_process": "history helper",
    "bench/__main__": "bench",
}
"""Which process runs which module."""


def environment(folder: Path) -> Mapping[str, str]:
    """What a process needs so that it and its children are sampled into ``folder``."""
    return {"PYTHONPATH": str(SAMPLER), "BENCH_PROFILE": str(folder)}


@contextmanager
def sampled(folder: Path | None) -> Iterator[None]:
    """Sample this process and all that it starts for the length of the block, if there is a folder."""
    if folder is None:
        yield
        return
    before = dict(os.environ)
    os.environ.update(environment(folder))
    sampler = Sampler()
    sampler.begin()
    try:
        yield
    finally:
        sampler.end(folder / f"{os.getpid()}.json")
        for name in environment(folder):
            os.environ.pop(name)
        os.environ.update(before)


def report(folder: Path) -> str:
    """The functions that took most, process by process: their own share, and with all they called."""
    parts = []
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        said = json.loads(path.read_text())
        total = sum(said["own"].values())
        if total < LEAST_CPU_S:
            continue
        parts.append(f"{_role(said['command'])}: {said['cpu_s']:.1f} CPU s")
        parts.append("   own  with calls  function")
        ordered = sorted(said["own"].items(), key=lambda item: -item[1])[:LINES]
        parts += [
            f"{own / total:6.1%}  {said['whole'][function] / total:10.1%}  {function}"
            for function, own in ordered
        ]
        parts.append("")
    return "\n".join(parts)


def _role(command: Sequence[str]) -> str:
    """What people call a process: a verb of the shell, or by its module."""
    path, *verbs = command
    if verbs[:1] == ["rules"]:
        return " ".join(verbs[:2])
    module = "/".join(Path(path).with_suffix("").parts[-2:])
    return _ROLES.get(module, module)
