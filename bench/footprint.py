"""What it takes to be there: memory with 8,000 devices, without and with windows, and the time to the first reading."""

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

SPAN_S = 720.0
"""So long the devices have spoken, by their own times, when their windows are full."""

POINTS = {
    "charger": ("temperature", "energy", "power"),
    "smoke": ("temperature", "linkquality", "density"),
    "button": ("linkquality", "battery", "linkquality"),
    "elevator": ("floor", "floor", "floor"),
}
"""What the windows of each kind are over."""

WINDOWS = """
  - id: all-windows-{kind}
    kind: {kind}
    let:
      mean: mean({one}, '10m')
      low: min({one}, '10m')
      high: max({one}, '10m')
      climb: rise({one}, '10m')
      gain: delta({two}, '10m')
      busy: count({three} > 0, '10m')
      lasted: duration({three} > 0)
      before: previous({three})
      moved: changed({three}, '10m')
    when: climb > 9999 and mean > 0 and low > 0 and high > 0 and gain > 0 and busy > 0 and moved or lasted > '30d'
    severity: low
    text: {{en: "{{mean}}", zh: "{{mean}}"}}
"""

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
    _with_windows(folder / "windows", scale, tell)
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


def _with_windows(folder: Path, scale: Scale, tell: Tell) -> None:
    """The node beside the shipped packs and nine functions of every device over ten minutes, all in use."""
    rules = "rules:" + "".join(
        WINDOWS.format(kind=kind, one=one, two=two, three=three) for kind, (one, two, three) in POINTS.items()
    )
    with world(folder, rules=rules) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        here.publish(scale.messages, SPAN_S)
        until(lambda: gateway.committed() >= scale.messages, "all messages in the journal")
        here.settle()
        _look(gateway)
        memory = gateway.memory()
    tell(Figure(NAME, "node with all windows in use", memory.now["node"] / 1e6, "MB", at_most(200)))
    tell(
        Figure(
            NAME,
            "node with all windows in use, at its largest",
            memory.peaks["node"] / 1e6,
            "MB",
            at_most(200),
        )
    )


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
