"""``python -m bench.publisher``: devices that publish at QoS 1, flat out or at a rate, and keep a ledger.

The ledger holds a line ``address ts`` for every message that the broker has acknowledged: what must not be
lost from then on. At the end one JSON object goes to standard output. SIGTERM ends it after the last PUBACK.
"""

import argparse
import itertools
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import mqtt5
from mqtt5 import PublishPacket, QoS

from bench.community import Message, babble, messages
from bench.wire import Wire

WINDOW = 1_000
"""Messages that may wait for PUBACK; the broker may allow fewer."""

BURST = 200
PACE_S = 0.002
"""At a rate: how often the clock is looked at."""


class Publisher:
    """Publishes ``count`` of the messages that are given to it, or without end."""

    def __init__(self, wire: Wire, ledger: Path, said: Iterator[Message]) -> None:
        self._wire = wire
        self._ledger = ledger.open("w")
        self._messages = said
        self._waiting: dict[int, str] = {}
        self._free = deque(range(1, min(WINDOW, wire.receive_max) + 1))
        self.sent = 0
        self.acknowledged = 0
        self.refused = 0
        self.payload_bytes = 0
        self.stopping = False

    def run(self, count: int | None, rate: float | None) -> None:
        """Publish until ``count`` are acknowledged, or until `stopping` is set and what is sent is."""
        began = time.monotonic()
        while True:
            due = BURST
            if rate is not None:
                due = int((time.monotonic() - began) * rate) - self.sent
            if count is not None:
                due = min(due, count - self.sent)
            if self.stopping:
                due = 0
            packets = self._packets(min(due, BURST, len(self._free)))
            if packets:
                self._wire.send(packets)
            over = self.stopping or self.sent == count
            if over and not self._waiting:
                break
            busy = due > len(packets) and bool(self._free)
            pause = 0.0 if busy else PACE_S if rate is not None and not over else 0.1
            self._take(self._wire.exchange(pause))
            if rate is not None and not busy:
                time.sleep(PACE_S)
        self._ledger.close()

    def _packets(self, count: int) -> list[bytes]:
        packets = []
        for _ in range(count):
            message = next(self._messages)
            packet_id = self._free.popleft()
            self._waiting[packet_id] = f"{message.address} {message.ts}\n"
            self.payload_bytes += len(message.payload)
            packets.append(
                PublishPacket(
                    message.topic, message.payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id
                ).write()
            )
        self.sent += count
        return packets

    def _take(self, packets: list[mqtt5.Packet]) -> None:
        lines = []
        for packet in packets:
            if not isinstance(packet, mqtt5.PubAckPacket):
                raise TypeError(f"the broker sent {packet}")
            line = self._waiting.pop(packet.packet_id)
            self._free.append(packet.packet_id)
            if packet.reason_code.value < 0x80:  # noqa: PLR2004 - from here on a reason code is a failure
                lines.append(line)
            else:
                self.refused += 1
        self.acknowledged += len(lines)
        self._ledger.writelines(lines)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def spread(span_s: float, count: int) -> Callable[[], int]:
    """The clock of devices that said ``count`` messages over ``span_s`` up to now."""
    begin, said = _now_ms() - span_s * 1_000, itertools.count()
    return lambda: int(begin + next(said) * span_s * 1_000 / count)


def main() -> int:
    """Publish; 0 when everything that was sent has been acknowledged."""
    parser = argparse.ArgumentParser(description="Publish a community's messages and keep a ledger.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--count", type=int)
    parser.add_argument("--rate", type=float, help="messages a second; flat out without it")
    parser.add_argument(
        "--span", type=float, default=0, help="seconds that --count messages took by the devices' own times"
    )
    parser.add_argument("--babbler", action="store_true", help="one sensor that has run wild says it all")
    arguments = parser.parse_args()
    name = "bench-babbler" if arguments.babbler else f"bench-publisher-{arguments.share}"
    now_ms = _now_ms
    if arguments.span:
        now_ms = spread(arguments.span, arguments.count)
    said = babble(now_ms) if arguments.babbler else messages(arguments.share, arguments.shares, now_ms)
    with Wire(arguments.port, name) as wire:
        publisher = Publisher(wire, arguments.ledger, said)

        def stop(_number: int, _frame: object) -> None:
            publisher.stopping = True

        signal.signal(signal.SIGTERM, stop)
        began = time.monotonic()
        publisher.run(arguments.count, arguments.rate)
        result = {
            "began": began,
            "ended": time.monotonic(),
            "acknowledged": publisher.acknowledged,
            "refused": publisher.refused,
            "payload_bytes": publisher.payload_bytes,
        }
        print(json.dumps(result))
    return int(publisher.refused > 0)


if __name__ == "__main__":
    sys.exit(main())
