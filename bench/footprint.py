"""What it takes to be there: memory with 8,000 devices, and the time from its start to the first reading."""

import subprocess
import sys
import time
from pathlib import Path

from bench.community import DEVICES
from bench.figures import Figure, Tell, at_most, percentile
from bench.gateway import ROOT, Gateway
from bench.world import Scale, until, world

NAME = "footprint"
RATE = 500.0
ALL_SPEAK = 45_000
"""Messages after which every device has spoken: two rounds of the community."""

_PAGES = ("/", "/api/v1/alarms", "/metrics", "/api/v1/openapi.json", "/healthz")
_IMPORTED = (
    "import sys, importlib, pathlib; importlib.import_module(sys.argv[1]);"
    "print(next(l for l in pathlib.Path('/proc/self/status').read_text().splitlines() if 'VmRSS' in l).split()[1])"
)


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Memory first, then starts on empty data directories with traffic on the broker."""
    with world(folder / "memory", profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        here.publish(ALL_SPEAK)
        until(lambda: gateway.committed() >= ALL_SPEAK, "all messages in the journal")
        here.settle()
        _look(gateway)
        with here.publishing(RATE):
            time.sleep(scale.settle_s)
            _look(gateway)
            now = gateway.memory().now
            health = gateway.health()
    devices = health.counts["devices"] if health is not None else 0
    tell(Figure(NAME, "devices that spoke", devices, "devices"))
    tell(Figure(NAME, "node", now["node"] / 1e6, "MB", at_most(120)))
    tell(Figure(NAME, "node and web", (now["node"] + now["web"]) / 1e6, "MB", at_most(200)))
    tell(Figure(NAME, "bridge", now["bridge"] / 1e6, "MB"))
    for module in ("edge.node_process", "edge.web.process", "edge.bridge_process"):
        tell(Figure(NAME, f"after nothing but `import {module}`", _imported(module) / 1e6, "MB"))

    took = []
    with world(folder / "starts") as here, here.publishing(RATE):
        for number in range(scale.starts):
            with Gateway(folder / f"start-{number}", here.broker.port, here.store.port) as gateway:
                began = time.monotonic()
                gateway.start()
                took.append(until(lambda: gateway.committed() > 0, "a first reading", every_s=0.005) - began)
    tell(Figure(NAME, "start to first committed reading, median", percentile(took, 0.5), "s"))
    tell(Figure(NAME, f"start to first committed reading, worst of {len(took)}", max(took), "s", at_most(2)))


def _look(gateway: Gateway) -> None:
    """As a person would who opens the board and pages through all devices."""
    for page in _PAGES:
        gateway.get(page)
    for kind in DEVICES:
        gateway.get(f"/api/v1/devices?kind={kind}&limit=500")


def _imported(module: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, module], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout) * 1024
