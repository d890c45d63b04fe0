"""The whole gateway under a wall clock that begins in 1970 and is set, forward and back, while it runs.

Its processes run under libfaketime: only their wall clock is false.
"""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edge import RELEASED_MS
from tests.gateway import ANLIN, Gateway
from tests.servers import Mosquitto, VictoriaMetrics
from tests.test_end_to_end import points
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire
from tools.servers import BUILD, locate

pytestmark = pytest.mark.timed

HOUR_S = 3_600
DELAY_S = 3
NEAR_S = 2.5
"""How far moments may lie apart that are one; what the clock is set by is very much more."""
RULES = f"""
rules:
  - id: warm
    kind: charger
    when: temperature >= 40
    for: {DELAY_S}s
    severity: low
    text: {{en: warm, zh: 热}}
"""


class Wall:
    """The wall clock of the processes that are started with `command`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._file = folder / "wall"

    def set(self, ahead_s: int) -> None:
        """So far ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}")
        new.replace(self._file)

    @property
    def command(self) -> tuple[str, ...]:
        locate("faketime")  # it comes with its library, or the error says how
        roots = (BUILD / "debian" / "root", Path("/"))
        library = next(
            found for root in roots for found in root.glob("usr/lib/*/faketime/libfaketimeMT.so.1")
        )
        return (
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "DONT_FAKE_MONOTONIC=1",
            *ANLIN,
            "run",
            "--config",
        )


def versions(watch: AlarmWatch) -> set[tuple[str, int]]:
    """Everything told about alarms; what was told before it was stored is told twice."""
    return {(told.id, told.alarm["version"]) for told in watch.told if told.alarm is not None}


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_started_in_1970_and_set_forward_and_back_alarms_are_right_and_the_cloud_has_right_times(
    tmp_path: Path,
) -> None:
    wall = Wall(tmp_path / "clock")
    wall.set(20 - int(time.time()))
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with Mosquitto.as_shipped() as broker, VictoriaMetrics() as store:
        gateway = Gateway(
            tmp_path / "gw",
            broker.port,
            command=wall.command,
            cloud={"url": store.url},
            rules=[str(rules)],
        )
        with gateway, Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
            assert "clock_untrusted" in gateway.reasons()
            pressed = time.time()
            device.publish("button/b1/event", {"action": "emergency"})
            device.publish("smoke/s1/telemetry", {"battery": 77, "ts": int(pressed * 1000)})
            device.publish("smoke/s2/telemetry", {"battery": 66})
            first = watch.wait_for("b1")
            assert first["provisional"]
            assert abs(moment(first["raised_at"]) - RELEASED_MS / 1000) < 30
            eventually(lambda: (gateway.ask("health")["cloud"] or {}).get("state") == "holding", every_s=0.1)
            assert points(store, '{__name__=~"(alarm|smoke|button)_.*"}') == []

            wall.set(0)
            right = watch.wait_for("b1", provisional=False)
            assert (right["id"], right["version"], right["state"]) == (first["id"], 2, "unacked")
            assert abs(moment(right["raised_at"]) - pressed) < NEAR_S
            assert "clock_untrusted" not in gateway.reasons()
            stored = right | {"durable": True}  # a slow disk may have had it told before
            eventually(lambda: gateway.board()[first["id"]] == stored)
            raised = _alarm_of(store, "b1")
            assert (raised["metric"]["transition"], len(raised["values"])) == ("raised", 1)
            _near(raised, pressed)
            eventually(lambda: len(points(store, '{__name__="smoke_battery"}')) == 2, every_s=0.2)
            for series in points(store, '{__name__="smoke_battery"}'):
                _near(series, pressed)
                if series["metric"]["device"] == "s1":
                    assert series["timestamps"] == [int(pressed * 1000)]

            for ahead_s, before_s in ((HOUR_S, 0), (0, HOUR_S)):
                begun = time.time()
                name = f"p{ahead_s}"
                device.publish(f"charger/{name}/telemetry", {"temperature": 50})
                device.settle()
                heard = versions(watch)
                _heard(gateway, name)
                wall.set(ahead_s)
                warm = watch.wait_for(name)
                assert DELAY_S - 0.1 < time.time() - begun < HOUR_S / 2
                assert abs(moment(warm["raised_at"]) - begun - ahead_s - DELAY_S) < NEAR_S, before_s
                assert (
                    len(versions(watch)) == len(heard) + 1
                )  # the step itself raised, cleared and told nothing
                assert "clock_untrusted" not in gateway.reasons()
                series = _alarm_of(store, name)
                _near(series, begun + ahead_s + DELAY_S)
            assert gateway.board()[first["id"]] == stored


def _heard(gateway: Gateway, device: str) -> None:
    eventually(lambda: device in str(gateway.ask("devices", limit=500)))


def _alarm_of(store: VictoriaMetrics, device: str) -> dict[str, Any]:
    """The one transition of a device's alarm, be it in an hour."""
    end = str(int(time.time()) + 2 * HOUR_S)
    selector = f'{{__name__="alarm_occurrences",device="{device}"}}'
    [series] = eventually(lambda: points(store, selector, end=end), every_s=0.2)
    return series


def _near(series: dict[str, Any], wanted_s: float) -> None:
    assert all(abs(at / 1000 - wanted_s) < NEAR_S for at in series["timestamps"]), (series, wanted_s)
