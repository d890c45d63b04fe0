"""What `bench.sampler` wrote, as a table for a person."""

import json
from pathlib import Path

LINES = 14
LEAST_CPU_S = 0.5

_ROLES = {"__main__": "node", "process": "web", "bridge_process": "bridge"}
"""Which process runs which module."""


def report(folder: Path) -> str:
    """The functions that took most, process by process: their own share, and with all they called."""
    parts = []
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        said = json.loads(path.read_text())
        total = sum(said["own"].values())
        if total < LEAST_CPU_S:
            continue
        module = Path(said["command"][0]).stem
        parts.append(f"{_ROLES.get(module, module)}: {said['cpu_s']:.1f} CPU s")
        parts.append("   own  with calls  function")
        ordered = sorted(said["own"].items(), key=lambda item: -item[1])[:LINES]
        parts += [
            f"{own / total:6.1%}  {said['whole'][function] / total:10.1%}  {function}"
            for function, own in ordered
        ]
        parts.append("")
    return "\n".join(parts)
