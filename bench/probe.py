"""``python -m bench.probe``: how long from a device's message to the alarm's topic.

Devices of its own, which nobody else plays, take turns: a smoke sensor (telemetry in the safety session), an
alarm button (event) and a charging port that reports a fault (telemetry in the bulk session, behind
everything else). An alarm names the time of the message that decided it, so each answer finds its question.
Moments are random (Poisson), so that no clock of the gateway is met in step. Both ends are this process.

Until SIGTERM; then a JSON line for each alarm asked for goes to standard output: kind, when (monotonic
seconds), how many milliseconds later than meant (this machine was busy), and after how many it came, or null.
"""

import argparse
import json
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass

import mqtt5
import msgspec
from mqtt5 import PublishPacket, QoS

from bench.community import PREFIX, SITE
from bench.wire import Wire

DEVICES = 40
"""Of each kind."""

CLEAR_AFTER_S = 1.0
LAST_ANSWER_S = 5.0
FIRST_PACKET_ID = 100
PACKET_IDS = 2_000

ASKED = {
    "smoke": (b'{"ts":%d,"smoke":true,"density":0.31}', b'{"ts":%d,"smoke":false,"density":0.01}'),
    "button": (b'{"ts":%d,"action":"emergency"}', None),
    "charger": (b'{"ts":%d,"voltage":230.1,"status":"Faulted"}', b'{"ts":%d,"status":"Available"}'),
}
"""What raises an alarm, and what ends it (the button's stands: the next press is an occurrence of it)."""


class _Alarm(msgspec.Struct):
    device: str
    source_time: int
    state: str


@dataclass(slots=True)
class Asked:
    """One alarm that must come."""

    kind: str
    at: float
    late_ms: float
    ms: float | None = None


class Probe:
    """Asks ``rate`` times a second until `stopping`."""

    def __init__(self, wire: Wire, rate: float) -> None:
        self._wire = wire
        self._rate = rate
        self._rng = random.Random(1)
        self._decode = msgspec.json.Decoder(_Alarm).decode
        self._open: dict[tuple[str, int], Asked] = {}
        self._clears: list[tuple[float, str, str, bytes]] = []
        self._packet = 0
        self._ts = 0
        self.asked: list[Asked] = []
        self.stopping = False

    def run(self) -> None:
        """Subscribe, ask, listen."""
        topic_filter = mqtt5.TopicFilter(
            f"{PREFIX}/{SITE}/alarm/+", max_qos=QoS.AT_LEAST_ONCE, retain_as_published=False
        )
        self._wire.send([mqtt5.SubscribePacket(1, [topic_filter]).write()])
        print("ready", flush=True)
        next_at = time.monotonic()
        end = None
        while end is None or (self._open and time.monotonic() < end):
            now = time.monotonic()
            if self.stopping and end is None:
                end = now + LAST_ANSWER_S
            if end is None and now >= next_at:
                self._ask(late_ms=(now - next_at) * 1000)
                next_at += self._rng.expovariate(self._rate)
            while self._clears and self._clears[0][0] <= now:
                _, kind, device, form = self._clears.pop(0)
                self._publish(kind, device, form)
            wake = min(next_at, self._clears[0][0]) if self._clears else next_at
            self._listen(self._wire.exchange(max(0.0, min(0.1, wake - time.monotonic()))))

    def _ask(self, late_ms: float) -> None:
        turn = len(self.asked)
        kind = list(ASKED)[turn % len(ASKED)]
        device = f"probe-{kind}-{turn // len(ASKED) % DEVICES:02d}"
        raises, clears = ASKED[kind]
        asked = Asked(kind, time.monotonic(), late_ms)
        self.asked.append(asked)
        self._open[device, self._publish(kind, device, raises)] = asked
        if clears is not None:
            self._clears.append((asked.at + CLEAR_AFTER_S, kind, device, clears))

    def _publish(self, kind: str, device: str, form: bytes) -> int:
        self._ts = max(time.time_ns() // 1_000_000, self._ts + 1)
        channel = "event" if kind == "button" else "telemetry"
        self._packet = (self._packet + 1) % PACKET_IDS
        packet = PublishPacket(
            f"{PREFIX}/{SITE}/{kind}/{device}/{channel}",
            form % self._ts,
            qos=QoS.AT_LEAST_ONCE,
            packet_id=FIRST_PACKET_ID + self._packet,
        )
        self._wire.send([packet.write()])
        return self._ts

    def _listen(self, packets: list[mqtt5.Packet]) -> None:
        now = time.monotonic()
        for packet in packets:
            if not isinstance(packet, PublishPacket):
                continue
            if packet.packet_id is not None:
                self._wire.send([mqtt5.PubAckPacket(packet.packet_id).write()])
            if not packet.payload or packet.retain:
                continue
            alarm = self._decode(packet.payload)
            asked = self._open.pop((alarm.device, alarm.source_time), None)
            if asked is not None:
                asked.ms = (now - asked.at) * 1000


def main() -> int:
    """Ask until told to end; 0 if every alarm came."""
    parser = argparse.ArgumentParser(description="Measure the way from a device to the alarm topic.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=10.0, help="alarms a second")
    arguments = parser.parse_args()
    with Wire(arguments.port, "bench-probe") as wire:
        probe = Probe(wire, arguments.rate)

        def stop(_number: int, _frame: object) -> None:
            probe.stopping = True

        signal.signal(signal.SIGTERM, stop)
        probe.run()
    for asked in probe.asked:
        print(json.dumps(asdict(asked)))
    return int(any(asked.ms is None for asked in probe.asked))


if __name__ == "__main__":
    sys.exit(main())
